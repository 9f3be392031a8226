"""What a run reports: windows of steps as rows in JSONL and TensorBoard, and a progress line."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from lrm_align import json_lines, processes
from lrm_align.errors import UserError
from lrm_align.objectives import histogram
from lrm_align.training.board import Board
from lrm_align.training.flops import peak_flops

Row = dict[str, float]
Counts = dict[str, list[float]]  # {metric: how many values lie in each bin of `objectives.histogram`}
FILE = "metrics.jsonl"
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
Saved = dict[str, Any]  # plain values, as JSON keeps them
SUMS = ("loss", "tokens", "trained_tokens", "attended", "skipped")
FINITE = ("loss", "grad_norm", "param_norm")
SKIPPED = "updates/skipped"
_SECONDS_BETWEEN_WRITES, _SECONDS_BETWEEN_LINES = 10.0, 5.0


class NotFiniteError(UserError):
    """A step gave NaN or infinity; the last checkpoint is from before it."""


class Window:
    """Adds up the metrics of the steps between two reports.

    Means are taken of sums and weights, never of means. A metric whose sum is a vector is a histogram, which is
    reported by its quantiles; the counts themselves are in `counts` of the window reported last.
    """

    counts: Counts

    def __init__(self) -> None:
        self._steps = 0
        self._sums = dict.fromkeys(SUMS, 0.0)
        self._objective: dict[str, tuple[Any, Any]] = {}  # float64 sums and weights
        self._since = time.perf_counter()
        self._last: Mapping[str, Any] = {}

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Waits for a step's metrics and adds them.

        Raises:
          NotFiniteError: the loss or a norm is NaN or infinite.
        """
        host = jax.device_get(metrics)
        bad = [f"{name} = {host[name]}" for name in FINITE if not math.isfinite(host[name])]
        if bad:
            raise NotFiniteError(
                f"training: step {step} gave {', '.join(bad)}; stopped, and nothing was saved since. "
                "The last checkpoint is good; a smaller train.optimizer.learning_rate or train.optimizer.clip may help"
            )
        self._steps += 1
        for name in SUMS:
            self._sums[name] += float(host[name])
        for name, pair in host["objective"].items():
            total, weight = (np.asarray(part, np.float64) for part in pair)
            before = self._objective.get(name, (0.0, 0.0))
            self._objective[name] = (before[0] + total, before[1] + weight)
        self._last = host

    def row(self, slots: int, flops: Callable[[float, float], float], peak: float | None) -> Row:
        """The report of the window, which then starts anew.

        Args:
          slots: token slots of a batch, padding included.
          flops: (tokens, attended) -> model FLOPs of all steps of the window.
          peak: FLOP/s of all devices together, or None.
        """
        seconds = time.perf_counter() - self._since
        row = {name: float(self._last[name]) for name in ("grad_norm", "param_norm", "update_norm", "lr")}
        row["loss"] = self._sums["loss"] / self._steps
        row[SKIPPED] = self._sums["skipped"]
        known = {name: pair for name, pair in self._objective.items() if pair[1] > 0}
        row |= {name: float(total / weight) for name, (total, weight) in known.items() if np.ndim(total) == 0}
        counts = {name: _counts(name, total) for name, (total, _) in known.items() if np.ndim(total) > 0}
        for name, count in counts.items():
            stem = name.removesuffix("/histogram")
            row |= {f"{stem}/{q}": histogram.quantile(np.array(count), share) for q, share in QUANTILES.items()}
        row["step_s"] = seconds / self._steps
        row["tokens_per_s"] = self._sums["tokens"] / seconds
        row["trained_tokens_per_s"] = self._sums["trained_tokens"] / seconds
        row["slot_tokens_per_s"] = slots * self._steps / seconds
        if peak is not None:
            row["mfu"] = flops(self._sums["tokens"], self._sums["attended"]) / seconds / peak
        self.__init__()  # type: ignore[misc]
        self.counts = counts
        return row

    def saved(self) -> Saved:
        """Plain values from which `restore` makes the same window, bit for bit."""
        objective = {name: [np.asarray(part).tolist() for part in pair] for name, pair in self._objective.items()}
        seconds = time.perf_counter() - self._since
        return {"steps": self._steps, "sums": {**self._sums}, "objective": objective, "seconds": seconds}

    def restore(self, saved: Saved) -> None:
        """Goes on with a window that another process began."""
        self._steps, self._sums = saved["steps"], {**saved["sums"]}
        self._objective = {
            name: (np.asarray(total, np.float64), np.asarray(weight, np.float64))
            for name, (total, weight) in saved["objective"].items()
        }
        self._since = time.perf_counter() - saved["seconds"]


def _counts(name: str, total: np.ndarray) -> list[float]:
    if total.shape != (histogram.BINS,):
        wanted = f"a scalar, or the {histogram.BINS} counts of objectives.histogram"
        raise UserError(f"metrics: the sum of {name!r} has the shape {total.shape}; {wanted} would be right")
    return total.tolist()


class Writer:
    """Writes rows to `metrics.jsonl` and to TensorBoard; the first process alone does.

    The file is written whole, since object stores cannot append. Rows of steps that a resumed run will do again are
    dropped from it, and so is a line that something cut.

    Args:
      directory: of the run.
      start: the first step that this process does.

    Raises:
      CannotWriteError: the directory cannot be written; so do all methods.
    """

    def __init__(self, directory: epath.PathLike, start: int = 0):
        self._path = epath.Path(directory) / FILE
        self._on = processes.primary()
        self._rows: list[dict[str, Any]] = []
        self._written = 0.0
        if not self._on:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rows = rows_before(self._path, start)
        self._board = Board(directory, start)

    def write(
        self, step: int, row: Mapping[str, float], counts: Mapping[str, list[float]] = {}, more: Mapping[str, Any] = {}
    ) -> None:
        """Adds a row, its histograms, and what only the file shall hold; the file follows within ten seconds."""
        if not self._on:
            return
        self._rows.append({"step": step, **row, **counts, **more})
        self._board.add(step, row, counts)
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Writes the file now."""
        if self._on:
            json_lines.write(self._path, self._rows)
            self._board.flush()
            self._written = time.monotonic()

    def close(self) -> None:
        """Writes the file and ends."""
        if self._on:
            self.flush()
            self._board.close()


def rows_before(path: epath.Path, start: int) -> list[dict[str, Any]]:
    """The rows of a file that are of steps before the first that is done now."""
    rows = json_lines.read_objects(path)
    return [row for row in rows if isinstance(row.get("step"), int) and row["step"] < start]


class Reporter:
    """Collects the metrics of steps one step late and reports them, a window at a time.

    Args:
      directory: where rows are written; None writes none.
      begin, num_steps: the steps to come.
      slots: token slots of a batch.
      cost: (tokens, attended) -> model FLOPs.
      mesh: whose peak the FLOPs are compared with.
      every: steps of a window.
      log: takes progress lines, at most one in five seconds.

    Attributes:
      rows: all reported rows with their step.
    """

    def __init__(
        self,
        directory: epath.PathLike | None,
        begin: int,
        num_steps: int,
        slots: int,
        cost: Callable[[float, float], float],
        mesh: jax.sharding.Mesh,
        every: int,
        log: Callable[[str], None],
    ):
        self.rows: list[Row] = []
        self._window = Window()
        self._writer = None if directory is None else Writer(directory, begin)
        self._num_steps, self._slots, self._cost, self._every, self._log = num_steps, slots, cost, every, log
        peak = peak_flops(mesh.devices.flat[0])
        self._peak = peak * mesh.size if peak else None
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._line_at = 0.0

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes the metrics of a dispatched step, and waits for those of the step before.

        Raises:
          NotFiniteError: the step before was not finite.
        """
        self.settle()
        self._pending = (step, values)

    def settle(self) -> None:
        """Waits for the step that was added last.

        Raises:
          NotFiniteError: it was not finite.
        """
        if self._pending is None:
            return
        (step, values), self._pending = self._pending, None
        self._window.add(step, values)
        if (step + 1) % self._every == 0 or step + 1 == self._num_steps:
            self._report(step)

    def saved(self) -> Saved:
        """Writes what was reported, and gives what a checkpoint of the step that was added last keeps of the rest.

        Raises:
          NotFiniteError: that step was not finite, and must not be saved.
          CannotWriteError: the file could not be written.
        """
        self.settle()
        if self._writer is not None:
            self._writer.flush()
        return {"window": self._window.saved()}

    def restore(self, saved: Saved | None) -> None:
        """Goes on from a checkpoint; one that keeps nothing of the kind begins a window."""
        if saved:
            self._window.restore(saved["window"])

    def _report(self, step: int) -> None:
        row = self._window.row(self._slots, self._cost, self._peak) | device_memory()
        self.rows.append({"step": step, **row})
        if self._writer is not None:
            self._writer.write(step, row, self._window.counts)
        if row[SKIPPED]:
            self._log(f"warning: step {step + 1}: since the last report {skipped(row)}")
        now = time.monotonic()
        if step + 1 == self._num_steps or now - self._line_at > _SECONDS_BETWEEN_LINES:
            self._log(progress(step + 1, self._num_steps, row))
            self._line_at = now

    def close(self) -> None:
        """Writes what was reported."""
        if self._writer is not None:
            self._writer.close()


def skipped(row: Row) -> str:
    """What a row says of the updates that taught nothing.

    >>> skipped({"updates/skipped": 1.0})
    '1 update had a gradient of exactly zero: weights and optimizer stayed as they were'
    """
    count = round(row[SKIPPED])
    updates = f"{count} update{'' if count == 1 else 's'}"
    return f"{updates} had a gradient of exactly zero: weights and optimizer stayed as they were"


def progress(step: int, num_steps: int, row: Mapping[str, float]) -> str:
    """One line for people, equal on a terminal and in a file.

    >>> progress(20, 100, {"loss": 1.5, "grad_norm": 0.25, "lr": 1e-3, "tokens_per_s": 12_345.6, "step_s": 1.5})
    'step 20/100  loss 1.5000  grad 0.250  lr 1.00e-03  12,346 tokens/s  2m00s left'
    """
    left = round((num_steps - step) * row["step_s"])
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    time_left = f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
    return (
        f"step {step}/{num_steps}  loss {row['loss']:.4f}  grad {row['grad_norm']:.3f}  lr {row['lr']:.2e}  "
        f"{row['tokens_per_s']:,.0f} tokens/s"
        + (f"  MFU {row['mfu']:.1%}" if "mfu" in row else "")
        + f"  {time_left} left"
    )


def device_memory() -> Row:
    """Peak bytes in use on the first local device, where the backend tells."""
    stats = jax.local_devices()[0].memory_stats()
    return {"device_peak_bytes": float(stats["peak_bytes_in_use"])} if stats and "peak_bytes_in_use" in stats else {}
