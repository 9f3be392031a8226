"""The table of sample rollouts that a run keeps for people: `rollouts.jsonl`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from lrm_align import json_lines, processes
from lrm_align.training.metrics import rows_before

MOST_ROWS = 1000  # the newest; the file is written whole, since object stores cannot append
_SECONDS_BETWEEN_WRITES = 10.0


class RolloutTable:
    """Writes `rollouts.jsonl`; the first process alone does.

    Rows of steps that a resumed run will do again are dropped from it, as from `metrics.jsonl`.

    Args:
      directory: of the run.
      start: the first step that this process does.
    """

    def __init__(self, directory: epath.PathLike, start: int = 0):
        self._path = epath.Path(directory) / "rollouts.jsonl"
        self._on = processes.primary()
        self._rows: list[Mapping[str, Any]] = []
        self._written = 0.0
        if self._on:
            self._rows = [*rows_before(self._path, start)]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows of `watch.sample_rows`; the file follows within ten seconds of the next call."""
        if not self._on:
            return
        self._rows = [*self._rows, *rows][-MOST_ROWS:]
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Writes the file now."""
        if self._on and self._rows:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            json_lines.write(self._path, self._rows)
            self._written = time.monotonic()
