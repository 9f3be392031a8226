"""Writing that survives a kill at any moment: finished traces go out as small shards, and a restart skips them."""

import hashlib
import re
from types import TracebackType

from etils import epath

from lrm_align import processes, stopping
from lrm_align.errors import UserError
from lrm_align.traces.record import Trace
from lrm_align.traces.shards import Shard, list_shards, write_shard


class ShardWriter:
    """Collects traces and writes a shard whenever enough are there.

    A sampler asks `done` for what earlier runs finished, draws the rest, and adds it: killed at any moment and started
    again, the directory ends with the same set of traces, none twice. At most `flush_every` traces are lost to a
    kill. One writer at a time has a prefix; samplers that share a directory take prefixes of their own.

    Processes that run together all make one, with the same traces in the same order; the first of them writes. That
    they were the same is looked at in the end.

    Args:
      directory: where the shards lie.
      recipe_hash: hash of the recipe; shards of another one in the directory are refused.
      flush_every: traces in a shard.
      prefix: beginning of the shards' names; a number follows.

    Raises:
      UserError: if a shard there is of another recipe, or a trace is there twice.
    """

    def __init__(self, directory: epath.PathLike, recipe_hash: str, flush_every: int = 256, prefix: str = "traces"):
        if flush_every < 1:
            raise UserError(f"flush_every must be at least 1, found {flush_every}")
        self._directory = epath.Path(directory)
        self._recipe_hash = recipe_hash
        self._flush_every = flush_every
        self._prefix = prefix
        self._pending: list[Trace] = []
        self._added = hashlib.sha256()
        self.shards: list[Shard] = list_shards(directory, recipe_hash)
        self.done: set[tuple[str, int]] = set()
        for shard in self.shards:
            keys = set(shard.manifest.keys)
            if len(keys) < shard.manifest.count or keys & self.done:
                twice = sorted(keys & self.done) or sorted(keys)
                raise UserError(f"{shard.path}: holds traces a second time, the first is {twice[0]!r}")
            self.done |= keys
        numbers = [re.fullmatch(re.escape(prefix) + r"-(\d+)", shard.manifest.name) for shard in self.shards]
        self._number = 1 + max((int(match[1]) for match in numbers if match), default=-1)
        processes.agree("shards", sorted(shard.manifest.sha256 for shard in self.shards))  # before any writes more

    def add(self, trace: Trace) -> None:
        """Takes a finished trace; writes a shard if it is the last that was missing."""
        if trace.key in self.done:
            raise ValueError(f"trace {trace.key!r} was finished before; ask `done` before sampling")
        self.done.add(trace.key)
        self._pending.append(trace)
        if len(self._pending) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending as a shard; Ctrl-C waits for that."""
        if not self._pending:
            return
        with stopping.deferred():
            name = f"{self._prefix}-{self._number:05d}"
            if processes.primary():
                self.shards.append(write_shard(self._directory, name, self._pending, self._recipe_hash))
            if processes.count() > 1:
                for trace in self._pending:
                    self._added.update(trace.to_bytes())
            self._pending = []
            self._number += 1

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()  # after an error too: what is finished is sound, and a restart need not draw it again
        if error is None and processes.count() > 1:
            processes.agree("traces", self._added.hexdigest())
            self.shards = list_shards(self._directory, self._recipe_hash)
