"""All tokens of a set of shards as flat arrays, so that a batch is a few gathers."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np

from lrm_align.errors import UserError
from lrm_align.traces.record import Trace
from lrm_align.traces.shards import Shard, read_shard

MEMORY_LIMIT = 4 << 30


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """Traces laid end to end.

    Rule: 5 bytes a token (9 with log-probabilities). Up to `memory_limit` bytes lie in memory, more in memory-mapped
    temporary files of the local disk, which vanish with the process.

    Attributes:
      tokens: (total,) int32.
      source: (total,) uint8 `Source` of each token.
      sampler_logp: (total,) float32, NaN where not sampled; None unless asked for.
      offsets: (traces + 1,) int64, where each trace begins.
      keys: (prompt id, sample) of each trace.
      tags: tags of each trace.
      groups: group id of each trace.
      unfinished: (traces,) bool, whether a trace ended at its length limit.
    """

    tokens: np.ndarray
    source: np.ndarray
    sampler_logp: np.ndarray | None
    offsets: np.ndarray
    keys: tuple[tuple[str, int], ...]
    tags: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    unfinished: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(traces,) int64 tokens of each trace."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, trace: int) -> str:
        """How an error names a trace."""
        prompt_id, sample = self.keys[trace]
        return f"trace number {trace} (prompt {prompt_id!r}, sample {sample})"

    @staticmethod
    def from_traces(
        traces: Sequence[Trace], *, with_logp: bool = False, memory_limit: int = MEMORY_LIMIT
    ) -> "TokenStore":
        """The store of traces that are at hand, in their order."""
        return _fill(traces, [trace.length for trace in traces], with_logp, memory_limit)

    @staticmethod
    def from_shards(
        shards: Iterable[Shard], *, with_logp: bool = False, memory_limit: int = MEMORY_LIMIT
    ) -> "TokenStore":
        """The store of shards, each verified as it is read; traces are numbered through in the order given.

        Raises:
          UserError: naming a damaged shard, or if there is no trace at all.
        """
        shards = list(shards)
        lengths = [sum(pair) for shard in shards for pair in shard.manifest.lengths]
        if not lengths:
            raise UserError(f"no traces in {len(shards)} shards; nothing to train on")
        traces = (trace for shard in shards for trace in read_shard(shard))
        return _fill(traces, lengths, with_logp, memory_limit)


def _fill(traces: Iterable[Trace], lengths: Sequence[int], with_logp: bool, memory_limit: int) -> TokenStore:
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))])
    total = int(offsets[-1])
    mapped = total * (9 if with_logp else 5) > memory_limit

    def flat(dtype: type) -> np.ndarray:
        if mapped:
            return np.memmap(tempfile.TemporaryFile(), dtype, "w+", shape=(total,))
        return np.empty(total, dtype)

    tokens, source = flat(np.int32), flat(np.uint8)
    logp = flat(np.float32) if with_logp else None
    keys, tags, groups = [], [], []
    unfinished = np.zeros(len(lengths), bool)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for each set of tags, not one for each trace
    for number, (trace, begin, end) in enumerate(zip(traces, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        middle = begin + trace.prompt_ids.size
        tokens[begin:middle], tokens[middle:end] = trace.prompt_ids, trace.completion_ids
        source[begin:middle], source[middle:end] = 0, trace.source
        if logp is not None:
            logp[begin:middle], logp[middle:end] = np.nan, trace.sampler_logp
        keys.append(trace.key)
        tags.append(known.setdefault(trace.tags, trace.tags))
        groups.append(trace.group_id)
        unfinished[number] = trace.stop_reason == "length"
    return TokenStore(tokens, source, logp, offsets, tuple(keys), tuple(tags), tuple(groups), unfinished)
