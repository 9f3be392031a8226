"""The table of sample rollouts that a run keeps for people: `rollouts.jsonl`."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

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
        self._on = jax.process_index() == 0
        self._lines: list[str] = []
        self._written = 0.0
        if self._on and start and self._path.exists():
            self._lines = [line for line in self._path.read_text().split("\n") if line and _step(line) < start]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows of `watch.sample_rows`; the file follows within ten seconds of the next call."""
        if not self._on:
            return
        self._lines = [*self._lines, *map(json.dumps, rows)][-MOST_ROWS:]
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Writes the file now."""
        if self._on and self._lines:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text("\n".join(self._lines) + "\n")
            self._written = time.monotonic()


def _step(line: str) -> float:
    """The step of a row; infinite for a line cut short by a kill."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf
