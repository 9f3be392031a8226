"""Continuous batching on the host: which sample is in which slot, refilled as soon as some have finished."""

import collections
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from lrm_align.errors import UserError
from lrm_align.models import Model, host_memory, partition
from lrm_align.models.decoder import unstacked_on_host
from lrm_align.sampling.decoding import Decoding
from lrm_align.sampling.lanes import side_by_side
from lrm_align.sampling.request import Completion, Request
from lrm_align.sampling.shape import EngineShape, asked_for

UNROLL_UP_TO = 1024  # positions of a slot


class Engine:
    """Draws samples for any number of requests, `shape.slots` at a time.

    A sample depends on the parameters, the shape, (seed, prompt id, sample number), its prompt and its sampling
    parameters alone: not on what else is asked for, nor in which order.

    Args:
      model: the model.
      params: its parameters, with or without adapters; may be replaced between two runs.
      shape: the static sizes.
      stop_ids: tokens that end a completion: all eos ids of the model's `generation_config`.
      seed: of the noise.
      vocab_size: size of the tokenizer's vocabulary, where the model's is padded.
      mesh: where the parameters lie; the cache is split over its batch and head axes.

    Attributes:
      lanes: threads that decode side by side.
      lane: the sizes of one of them.

    Raises:
      UserError: stop ids outside the vocabulary, or slots that the mesh does not divide.
    """

    def __init__(
        self,
        model: Model,
        params: Any,
        shape: EngineShape,
        *,
        stop_ids: Sequence[int],
        seed: int = 0,
        vocab_size: int | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ):
        self.model, self.params, self.shape, self.mesh = model, params, shape, mesh
        self.vocab_size = vocab_size or model.config.vocab_size
        self.stop_ids = tuple(sorted(set(stop_ids)))
        self.seed = seed
        self.on_cpu = mesh is None and partition.platform() == "cpu"
        if self.on_cpu:
            host_memory.give_back_arrays()
        self.lanes = shape.lanes if self.on_cpu else 1
        self.lane, self._lock = shape.lane if self.lanes > 1 else shape, threading.Lock()
        beyond = [i for i in self.stop_ids if not 0 <= i < self.vocab_size]
        if beyond:
            raise UserError(f"sampling: stop ids {beyond} are not in the vocabulary of {self.vocab_size} tokens")
        if self.vocab_size > model.config.vocab_size:
            raise UserError(
                f"sampling: the tokenizer has {self.vocab_size} tokens, the model only {model.config.vocab_size}"
            )
        if mesh is not None:
            ways = partition.ways(mesh, partition.spec(("batch",), model.rules)[0])
            if shape.slots % ways:
                raise UserError(
                    f"sampling: {shape.slots} slots are not divisible by the {ways} batch shards of the mesh"
                )

    def check(self, requests: Iterable[Request]) -> list[Request]:
        """The requests, each of which this engine can serve.

        Raises:
          UserError: an empty prompt, one without room for an answer, an id outside the vocabulary, a sample asked for
            twice, or triggers beyond the shape's limits.
        """
        requests, seen = list(requests), set()
        longest = self.shape.max_length - 1
        for request in requests:
            where = f"prompt {request.prompt_id!r}"
            ids = np.asarray(request.prompt_ids)
            if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
                raise UserError(f"{where}: prompt_ids must be a list of at least one token id")
            if ids.size > longest:
                raise UserError(
                    f"{where} has {ids.size} tokens; with room for one new token the engine's max_length of "
                    f"{self.shape.max_length} allows {longest}"
                )
            if ids.min() < 0 or ids.max() >= self.vocab_size:
                raise UserError(
                    f"{where}: token ids {ids.min()}…{ids.max()} exceed the vocabulary of {self.vocab_size}"
                )
            for number in request.numbers:
                if (request.prompt_id, number) in seen:
                    raise UserError(f"{where}: sample {number} is asked for twice")
                seen.add((request.prompt_id, number))
            self._check_triggers(request, where)
        return requests

    def run(self, requests: Iterable[Request], watch: Callable[[int], None] | None = None) -> Iterator[Completion]:
        """Yields completions as they finish, in no particular order.

        Args:
          requests: what to sample; all are checked before the first token.
          watch: called after each look of the host with the number of tokens decoded since the last.

        Raises:
          UserError: see `check`.
        """
        waiting = collections.deque(self.check(requests))
        decoder = self._decoder()
        lanes = [lambda watch: self._run(waiting, decoder, watch)] * self.lanes
        return side_by_side(lanes, watch) if len(lanes) > 1 else lanes[0](watch)

    def decoding(self) -> Decoding:
        """A lane of its own over empty slots, for those who fill it themselves."""
        return Decoding(self, self._decoder())

    def _run(
        self, waiting: collections.deque[Request], decoder: tuple[Model, Any], watch: Callable[[int], None] | None
    ) -> Iterator[Completion]:
        """One lane's work, until nobody waits any more."""
        lane = Decoding(self, decoder)
        while True:
            yield from lane.fill(lambda: self.take(waiting))
            if not lane.table.occupied():
                return
            count = lane.step(more=bool(waiting))
            if watch is not None:
                watch(count)
            yield from lane.table.finished()

    def take(self, waiting: collections.deque[Request]) -> list[Request]:
        """The next requests whose prompts share a bucket; the others keep their order."""
        chosen: list[Request] = []
        others: list[Request] = []
        with self._lock:
            bucket = self.shape.bucket(len(waiting[0].prompt_ids)) if waiting else 0
            while waiting and len(chosen) < self.lane.rows and len(others) < 4 * self.lane.slots:
                request = waiting.popleft()
                (chosen if self.shape.bucket(len(request.prompt_ids)) == bucket else others).append(request)
            waiting.extendleft(reversed(others))
        return chosen

    def _decoder(self) -> tuple[Model, Any]:
        """The model and parameters that decode: on a CPU with unrolled layers, which takes half the time a token.

        It reads a slot's whole cache for each token: not for long slots, nor for accelerators. Nor for weights of
        another dtype, all of which the compiler would cast before the loop over tokens, and hold twice.
        """
        if not self.on_cpu or self.shape.max_length > UNROLL_UP_TO:
            return self.model, self.params
        if any(leaf.dtype != self.model.dtype for leaf in jax.tree.leaves(self.params["layers"])):
            return self.model, self.params
        return dataclasses.replace(self.model, scan=False), unstacked_on_host(self.params)

    def on_mesh(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a compiled program where the parameters lie."""
        if self.mesh is None:
            with self._lock:  # lanes share what is compiled; the work itself goes on after the call
                return function(*arguments)
        with jax.set_mesh(self.mesh):
            return function(*arguments)

    def _check_triggers(self, request: Request, where: str) -> None:
        if request.intervention is None:
            return
        for name, found in asked_for(request.intervention).items():
            allowed = getattr(self.shape, name)
            if found > allowed:
                raise UserError(f"{where}: the intervention needs {name} = {found}, the engine's shape has {allowed}")
