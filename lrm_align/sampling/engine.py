"""Continuous batching on the host: which sample is in which slot, refilled as soon as some have finished."""

import collections
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lrm_align.errors import UserError
from lrm_align.models import Model, partition
from lrm_align.models.decoder import unstacked
from lrm_align.sampling import programs
from lrm_align.sampling.interventions import StepBoundary, StopString
from lrm_align.sampling.lanes import side_by_side
from lrm_align.sampling.request import Completion, Request
from lrm_align.sampling.shape import EngineShape
from lrm_align.sampling.table import SlotTable

UNROLL_UP_TO = 1024  # positions of a slot

_unstacked = jax.jit(unstacked)


class _Ready(NamedTuple):
    """A sample whose prompt has been read: row `row` of a block of keys and values."""

    request: Request
    sample: int
    block: tuple[jax.Array, jax.Array]
    row: int


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
        self._lanes = shape.lanes if mesh is None and partition.platform() == "cpu" else 1
        self._lane, self._lock = shape.lane if self._lanes > 1 else shape, threading.Lock()
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
        lanes = [lambda watch: self._run(waiting, decoder, watch)] * self._lanes
        return side_by_side(lanes, watch) if len(lanes) > 1 else lanes[0](watch)

    def _run(
        self, waiting: collections.deque[Request], decoder: tuple[Model, Any], watch: Callable[[int], None] | None
    ) -> Iterator[Completion]:
        """One lane's work, until nobody waits any more."""
        shape, (model, params) = self._lane, decoder
        cache = self._on_mesh(programs.new_cache, model, shape.slots, shape.max_length)
        table = SlotTable(shape, self.stop_ids)
        ready: collections.deque[_Ready] = collections.deque()
        key, stop_ids = jax.random.key(self.seed), np.asarray(self.stop_ids or (programs.UNUSED,), np.int32)
        while True:
            while (free := table.free()) and (ready or waiting):
                if not ready:
                    ready.extend(self._read(self._next(waiting)))
                if not ready:  # another lane has taken the last
                    break
                cache = self._insert(cache, ready, free, table)
                # Interventions may end a completion before its first token.
                yield from table.finished()
            if not table.occupied():
                return
            idle = shape.idle if ready or waiting else shape.slots
            cache, decoded = self._on_mesh(
                programs.decode,
                model,
                params,
                cache,
                table.slots(),
                key,
                table.forced(),
                stop_ids,
                np.int32(idle),
                self.vocab_size,
            )
            count = table.advance(jax.device_get(decoded))
            if watch is not None:
                watch(count)
            yield from table.finished()

    def _next(self, waiting: collections.deque[Request]) -> list[Request]:
        """The next requests whose prompts share a bucket; the others keep their order."""
        chosen: list[Request] = []
        others: list[Request] = []
        with self._lock:
            bucket = self.shape.bucket(len(waiting[0].prompt_ids)) if waiting else 0
            while waiting and len(chosen) < self._lane.rows and len(others) < 4 * self._lane.slots:
                request = waiting.popleft()
                (chosen if self.shape.bucket(len(request.prompt_ids)) == bucket else others).append(request)
            waiting.extendleft(reversed(others))
        return chosen

    def _read(self, chosen: Sequence[Request]) -> Iterator[_Ready]:
        """Reads prompts that share a bucket."""
        if not chosen:
            return
        bucket = self.shape.bucket(len(chosen[0].prompt_ids))
        tokens = np.zeros((self._lane.rows, bucket), np.int32)
        lengths = np.ones(self._lane.rows, np.int32)
        for row, request in enumerate(chosen):
            tokens[row, : len(request.prompt_ids)], lengths[row] = request.prompt_ids, len(request.prompt_ids)
        block = self._on_mesh(programs.read_prompts, self.model, self.params, tokens, lengths)
        for row, request in enumerate(chosen):
            for number in request.numbers:
                yield _Ready(request, number, block, row)

    def _insert(
        self, cache: programs.AnyCache, ready: collections.deque[_Ready], free: list[int], table: SlotTable
    ) -> programs.AnyCache:
        """Puts samples of one block into free slots."""
        block = ready[0].block
        rows = np.zeros(self._lane.rows, np.int32)
        slots = np.full(self._lane.rows, self._lane.slots, np.int32)
        for w, slot in zip(range(self._lane.rows), free):
            if not ready or ready[0].block is not block:
                break
            entry = ready.popleft()
            rows[w], slots[w] = entry.row, slot
            table.start(slot, entry.request, entry.sample, _hash32(entry.request.prompt_id))
        return self._on_mesh(programs.insert, cache, *block, rows, slots)

    def _decoder(self) -> tuple[Model, Any]:
        """The model and parameters that decode: on a CPU with unrolled layers, which takes half the time a token.

        It reads a slot's whole cache for each token, and holds the weights twice while it runs: not for long slots, nor
        for accelerators.
        """
        if self.mesh is not None or partition.platform() != "cpu" or self.shape.max_length > UNROLL_UP_TO:
            return self.model, self.params
        return dataclasses.replace(self.model, scan=False), _unstacked(self.params)

    def _on_mesh(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.mesh is None:
            with self._lock:  # lanes share what is compiled; the work itself goes on after the call
                return function(*arguments)
        with jax.set_mesh(self.mesh):
            return function(*arguments)

    def _check_triggers(self, request: Request, where: str) -> None:
        if request.intervention is None:
            return
        ask_at = request.intervention.ask_at
        boundary = sum(len(trigger.ids) for trigger in ask_at if isinstance(trigger, StepBoundary))
        strings = [trigger.ids for trigger in ask_at if isinstance(trigger, StopString)]
        limits = {
            "boundary_ids": boundary,
            "stop_strings": len(strings),
            "stop_string_length": max(map(len, strings), default=0),
        }
        for name, found in limits.items():
            allowed = getattr(self.shape, name)
            if found > allowed:
                raise UserError(f"{where}: the intervention needs {name} = {found}, the engine's shape has {allowed}")


def _hash32(text: str) -> int:
    """A hash that is the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
