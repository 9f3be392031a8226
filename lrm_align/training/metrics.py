"""What a run reports: windows of steps as rows in JSONL and TensorBoard, and a progress line."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from tensorboardX import SummaryWriter

from lrm_align.errors import UserError
from lrm_align.objectives import histogram
from lrm_align.training.flops import peak_flops

Row = dict[str, float]
Counts = dict[str, list[float]]  # {metric: how many values lie in each bin of `objectives.histogram`}
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
FINITE = ("loss", "grad_norm", "param_norm")
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
        self._loss = self._tokens = self._trained = self._attended = 0.0
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
        self._loss += float(host["loss"])
        self._tokens += float(host["tokens"])
        self._trained += float(host["trained_tokens"])
        self._attended += float(host["attended"])
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
        row["loss"] = self._loss / self._steps
        known = {name: pair for name, pair in self._objective.items() if pair[1] > 0}
        row |= {name: float(total / weight) for name, (total, weight) in known.items() if np.ndim(total) == 0}
        counts = {name: _counts(name, total) for name, (total, _) in known.items() if np.ndim(total) > 0}
        for name, count in counts.items():
            stem = name.removesuffix("/histogram")
            row |= {f"{stem}/{q}": histogram.quantile(np.array(count), share) for q, share in QUANTILES.items()}
        row["step_s"] = seconds / self._steps
        row["tokens_per_s"] = self._tokens / seconds
        row["trained_tokens_per_s"] = self._trained / seconds
        row["slot_tokens_per_s"] = slots * self._steps / seconds
        if peak is not None:
            row["mfu"] = flops(self._tokens, self._attended) / seconds / peak
        self.__init__()  # type: ignore[misc]
        self.counts = counts
        return row


def _counts(name: str, total: np.ndarray) -> list[float]:
    if total.shape != (histogram.BINS,):
        wanted = f"a scalar, or the {histogram.BINS} counts of objectives.histogram"
        raise UserError(f"metrics: the sum of {name!r} has the shape {total.shape}; {wanted} would be right")
    return total.tolist()


class Writer:
    """Writes rows to `metrics.jsonl` and to TensorBoard; the first process alone does.

    The file is written whole, since object stores cannot append. Rows of steps that a resumed run will do again are
    dropped from it.

    Args:
      directory: of the run.
      start: the first step that this process does.
    """

    def __init__(self, directory: epath.PathLike, start: int = 0):
        self._path = epath.Path(directory) / "metrics.jsonl"
        self._on = jax.process_index() == 0
        self._rows: list[str] = []
        self._written = 0.0
        if not self._on:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if start and self._path.exists():
            self._rows = [line for line in self._path.read_text().splitlines() if _step(line) < start]
        self._board = SummaryWriter(str(directory), purge_step=start or None)

    def write(
        self, step: int, row: Mapping[str, float], counts: Mapping[str, list[float]] = {}, more: Mapping[str, Any] = {}
    ) -> None:
        """Adds a row, its histograms, and what only the file shall hold; the file follows within ten seconds."""
        if not self._on:
            return
        self._rows.append(json.dumps({"step": step, **row, **counts, **more}))
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        for name, count in counts.items():
            self._add_histogram(name, np.array(count), step)
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def _add_histogram(self, name: str, count: np.ndarray, step: int) -> None:
        limits = np.array([*histogram.EDGES, 2 * histogram.EDGES[-1]])  # the last bin is open; TensorBoard wants an end
        self._board.add_histogram_raw(
            name,
            min=-limits[-1],
            max=limits[-1],
            num=count.sum(),
            sum=count @ limits,
            sum_squares=count @ limits**2,
            bucket_limits=limits.tolist(),
            bucket_counts=count.tolist(),
            global_step=step,
        )

    def flush(self) -> None:
        """Writes the file now."""
        if self._on:
            self._path.write_text("\n".join(self._rows) + "\n")
            self._board.flush()
            self._written = time.monotonic()

    def close(self) -> None:
        """Writes the file and ends."""
        if self._on:
            self.flush()
            self._board.close()


def _step(line: str) -> float:
    """The step of a row; infinite for a line cut short by a kill."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


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

    def _report(self, step: int) -> None:
        row = self._window.row(self._slots, self._cost, self._peak) | device_memory()
        self.rows.append({"step": step, **row})
        if self._writer is not None:
            self._writer.write(step, row, self._window.counts)
        now = time.monotonic()
        if step + 1 == self._num_steps or now - self._line_at > _SECONDS_BETWEEN_LINES:
            self._log(progress(step + 1, self._num_steps, row))
            self._line_at = now

    def close(self) -> None:
        """Writes what was reported."""
        if self._writer is not None:
            self._writer.close()


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
