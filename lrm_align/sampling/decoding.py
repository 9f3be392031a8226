"""What one lane decodes: its cache, its slots, and the prompts that were read and wait for a slot."""

import collections
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from lrm_align.models import Model, host_memory
from lrm_align.sampling import programs
from lrm_align.sampling.request import Completion, Request
from lrm_align.sampling.table import SlotTable

if TYPE_CHECKING:
    from lrm_align.sampling.engine import Engine


class _Ready(NamedTuple):
    """A sample whose prompt has been read: row `row` of a block of keys and values."""

    request: Request
    sample: int
    block: tuple[jax.Array, jax.Array]
    row: int


class Decoding:
    """Fills slots and decodes them, look by look; who waits, and for how long, is its caller's business.

    Args:
      engine: whose model, sizes and noise it decodes with.
      decoder: the model and parameters that decode.

    Attributes:
      table: its slots.
    """

    def __init__(self, engine: "Engine", decoder: tuple[Model, Any]):
        self._engine, self._decoder, self._shape = engine, decoder, engine.lane
        self._cache = engine.on_mesh(programs.new_cache, decoder[0], self._shape.slots, self._shape.max_length)
        self._key, self._trimmed = jax.random.key(engine.seed), False
        self._stop_ids = np.asarray(engine.stop_ids or (programs.UNUSED,), np.int32)
        self._ready: collections.deque[_Ready] = collections.deque()
        self.table = SlotTable(self._shape, engine.stop_ids)

    def fill(self, take: Callable[[], Sequence[Request]]) -> Iterator[Completion]:
        """Puts samples into free slots, until there is no such slot or nobody waits.

        Args:
          take: the next requests whose prompts share a bucket, at most `shape.rows`; none where nobody waits.

        Yields:
          What an intervention ends before its first token.
        """
        while free := self.table.free():
            if not self._ready:
                self._ready.extend(self._read(take()))
            if not self._ready:
                return
            self._insert(free)
            yield from self.table.finished()

    def step(self, more: bool, steps: int | None = None) -> int:
        """One call of the device and one look of the host; returns the decoded tokens.

        Args:
          more: somebody waits for a slot, so that the device returns early when some are idle.
          steps: tokens a slot, where not as many as the shape says.
        """
        engine, table = self._engine, self.table
        idle = self._shape.idle if self._ready or more else self._shape.slots
        self._cache, decoded = engine.on_mesh(
            programs.decode,
            *self._decoder,
            self._cache,
            table.slots(),
            self._key,
            table.forced(),
            self._stop_ids,
            np.int32(idle),
            np.int32(min(steps or self._shape.steps_per_call, self._shape.steps_per_call)),
            engine.vocab_size,
        )
        found = jax.device_get(decoded)
        if engine.on_cpu and not self._trimmed:  # the first call may have compiled
            self._trimmed = True
            host_memory.trim()
        return table.advance(found)

    def drop(self, unwanted: Callable[[Request], bool]) -> None:
        """Forgets the samples of requests that nobody wants any more."""
        self.table.drop(unwanted)
        self._ready = collections.deque(ready for ready in self._ready if not unwanted(ready.request))

    def _read(self, chosen: Sequence[Request]) -> Iterator[_Ready]:
        """Reads prompts that share a bucket."""
        if not chosen:
            return
        bucket = self._shape.bucket(len(chosen[0].prompt_ids))
        tokens = np.zeros((self._shape.rows, bucket), np.int32)
        lengths = np.ones(self._shape.rows, np.int32)
        for row, request in enumerate(chosen):
            tokens[row, : len(request.prompt_ids)], lengths[row] = request.prompt_ids, len(request.prompt_ids)
        engine = self._engine
        block = engine.on_mesh(programs.read_prompts, engine.model, engine.params, tokens, lengths)
        for row, request in enumerate(chosen):
            for number in request.numbers:
                yield _Ready(request, number, block, row)

    def _insert(self, free: Sequence[int]) -> None:
        """Puts samples of one block into free slots."""
        ready = self._ready
        block = ready[0].block
        rows = np.zeros(self._shape.rows, np.int32)
        slots = np.full(self._shape.rows, self._shape.slots, np.int32)
        for w, slot in zip(range(self._shape.rows), free):
            if not ready or ready[0].block is not block:
                break
            entry = ready.popleft()
            rows[w], slots[w] = entry.row, slot
            self.table.start(slot, entry.request, entry.sample, _hash32(entry.request.prompt_id))
        self._cache = self._engine.on_mesh(programs.insert, self._cache, *block, rows, slots)


def _hash32(text: str) -> int:
    """A hash that is the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
