"""The packing plan: which trace stands where in which batch, from lengths and a seed alone."""

import dataclasses
import math
import threading

import numpy as np

from lrm_align.errors import UserError
from lrm_align.traces.packing import pack_all, pack_steps

OVERLONG = ("drop", "truncate", "error")
LEFTOVER = ("pad", "drop")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the K traces of some rows stand, ordered by row and offset.

    Attributes:
      trace_K: number of the trace.
      row_K: its row.
      offset_K: position of its first token in the row.
      length_K: its tokens, after cutting.
      segment_K: its segment id, from 1 in each row.
      pair_K: chosen 2k, rejected 2k + 1 for the row's pair k; -1 unpaired.
    """

    trace_K: np.ndarray
    row_K: np.ndarray
    offset_K: np.ndarray
    length_K: np.ndarray
    segment_K: np.ndarray
    pair_K: np.ndarray


class Plan:
    """Batches of packed rows; the batch of a step is a pure function of (lengths, arguments, step).

    Two batch rules, of which one is chosen:

    * `batch_traces=n`: an epoch shuffles the bundles, a step takes the next n and packs those into as many rows as the
      worst step of the plan needs. The optimizer sees what it would see unpacked: n traces a step.
    * `batch_rows=n`: an epoch packs everything into full rows, shuffles the rows, and a step takes the next n. Which
      bundles share a row is drawn anew in each epoch, among bundles of equal length. A step then holds more traces
      than a paper's, so that the learning rate wants the rule of `rescale`, which is ours.

    Every bundle comes once in each epoch. The last step of an epoch holds what is left and empty rows
    (`leftover="pad"`), or the rest sits the epoch out (`"drop"`); both are counted.

    >>> plan = Plan([3, 5, 4, 2], row_length=8, seed=0, batch_rows=1)
    >>> plan.steps_per_epoch, plan.fill, [plan.batch(t).length_K.tolist() for t in range(2)]
    (2, 0.875, [[4, 2], [5, 3]])

    Args:
      lengths: tokens of each trace.
      row_length: tokens in a row.
      seed: of all shuffles.
      batch_traces: bundles in a step (a bundle is a trace, or a pair).
      batch_rows: rows in a step.
      epochs: passes over the data.
      max_segments: most traces in a row; the size of per-segment arrays. Too low a number leaves rows of short traces
        partly empty.
      overlong: what becomes of a bundle longer than a row: "drop", "truncate" (its end is cut; of a pair, the longer
        trace's first), or "error".
      leftover: "pad" or "drop".
      rows_multiple: the rows of a batch are a multiple of it (hosts × micro-batches × data shards).
      pairs_Px2: trace numbers of (chosen, rejected); each trace in none or one pair. The others stand alone.

    Attributes:
      rows: rows in every batch.
      steps_per_epoch, num_steps: steps of one epoch, and of all.
      counts: traces, bundles, dropped_overlong (bundles), truncated (traces), cut_tokens; and of the first epoch
        left_over (bundles), tokens, slots, empty_rows.
      fill: tokens / slots of the first epoch.
      paired: whether there are pairs.

    Raises:
      UserError: for arguments that contradict each other or the data.
    """

    def __init__(
        self,
        lengths: np.ndarray | list[int],
        *,
        row_length: int,
        seed: int,
        batch_traces: int | None = None,
        batch_rows: int | None = None,
        epochs: int = 1,
        max_segments: int = 256,
        overlong: str = "drop",
        leftover: str = "pad",
        rows_multiple: int = 1,
        pairs_Px2: np.ndarray | None = None,
    ):
        if (batch_traces is None) == (batch_rows is None):
            raise UserError("plan: set either batch_traces or batch_rows, and not both")
        sizes = {
            "row_length": row_length,
            "batch_traces": batch_traces,
            "batch_rows": batch_rows,
            "epochs": epochs,
            "max_segments": max_segments,
            "rows_multiple": rows_multiple,
        }
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise UserError(f"plan: {name} must be at least 1, found {value}")
        if seed < 0:
            raise UserError(f"plan: the seed must not be negative, found {seed}")
        if overlong not in OVERLONG or leftover not in LEFTOVER:
            found = f"{overlong!r} and {leftover!r}"
            raise UserError(f"plan: overlong is one of {OVERLONG} and leftover one of {LEFTOVER}, found {found}")
        if batch_rows is not None and batch_rows % rows_multiple:
            raise UserError(f"plan: batch_rows={batch_rows} is not divisible by rows_multiple={rows_multiple}")
        self.row_length, self.seed, self.epochs, self.max_segments = row_length, seed, epochs, max_segments
        self._by_rows, self._each, self._leftover = batch_rows is not None, batch_rows or batch_traces or 0, leftover
        self._members_Nx2 = _bundles(len(lengths), pairs_Px2)
        self.paired = bool((self._members_Nx2[:, 1] >= 0).any())
        self._take(np.asarray(lengths, np.int64), overlong)
        self._layouts: dict[int, tuple[Layout, np.ndarray]] = {}
        self._lock = threading.Lock()
        self._pack(rows_multiple)
        self._count()

    def batch(self, step: int, host: int = 0, hosts: int = 1) -> Layout:
        """The layout of a step; on several hosts each gets its consecutive part of the rows, numbered from 0."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of a plan of {self.num_steps} steps")
        layout, ends = self._epoch(step // self.steps_per_epoch)
        share = self.rows // hosts
        first = step % self.steps_per_epoch * self.rows + host * share
        part = slice(ends[first], ends[first + share])
        picked = {field.name: getattr(layout, field.name)[part] for field in dataclasses.fields(Layout)}
        return Layout(**{**picked, "row_K": picked["row_K"] - first})

    def traces(self) -> np.ndarray:
        """The numbers of the traces that the plan uses, ascending."""
        return np.flatnonzero(self.planned_lengths)

    def _take(self, lengths: np.ndarray, overlong: str) -> None:
        """Decides about over-long bundles; keeps planned lengths (0: not used) and the bundles that stay."""
        if lengths.size and lengths.min() < 1:
            raise UserError(f"plan: trace number {int(lengths.argmin())} is empty")
        members = self._members_Nx2
        second = members[:, 1] >= 0
        traces_N = 1 + second
        total_N = lengths[members[:, 0]] + np.where(second, lengths[members[:, 1]], 0)
        long_N = total_N > self.row_length
        cut = np.zeros(0, np.int64)
        if long_N.any() and overlong == "error":
            worst = int(total_N.argmax())
            raise UserError(
                f"plan: {int(long_N.sum())} bundles are longer than a row of {self.row_length} tokens; the longest, "
                f"of trace number {members[worst, 0]}, has {total_N[worst]}"
            )
        planned = lengths.copy()
        if overlong == "truncate":
            cut, half = members[long_N], self.row_length // 2
            single, pair = cut[cut[:, 1] < 0, 0], cut[cut[:, 1] >= 0]
            planned[single] = self.row_length
            for mine, other in ((pair[:, 0], pair[:, 1]), (pair[:, 1], pair[:, 0])):
                planned[mine] = np.minimum(lengths[mine], np.maximum(half, self.row_length - lengths[other]))
            if pair.size and not half:
                raise UserError("plan: a row of one token cannot hold a pair")
            total_N = planned[members[:, 0]] + np.where(second, planned[members[:, 1]], 0)
            long_N = np.zeros_like(long_N)
        self._kept = np.flatnonzero(~long_N)
        if not self._kept.size:
            raise UserError(f"plan: none of {len(members)} bundles fits a row of {self.row_length} tokens")
        if traces_N[self._kept].max() > self.max_segments:
            raise UserError("plan: max_segments=1 cannot hold a pair; it must be at least 2")
        gone = members[long_N]
        planned[gone[gone >= 0]] = 0
        self._total_N, self._traces_N = total_N.astype(np.int32), traces_N.astype(np.int32)
        self.planned_lengths = planned.astype(np.int32)
        self.counts = {
            "traces": int(lengths.size),
            "bundles": len(members),
            "dropped_overlong": int(long_N.sum()),
            "truncated": int(((planned < lengths) & (planned > 0)).sum()),
            "cut_tokens": int((lengths - planned)[planned > 0].sum()),
        }

    def _pack(self, rows_multiple: int) -> None:
        """Fixes the rows of a batch and the steps of an epoch."""
        kept = self._kept
        if not self._by_rows:
            self.steps_per_epoch = self._steps(kept.size, self._each, "traces")
            need = max(int(self._packed_steps(epoch)[2]) for epoch in range(self.epochs))
            self.rows = math.ceil(need / rows_multiple) * rows_multiple
        else:
            # Longest first; a kind is (length, traces), so that any two bundles of a kind can change places.
            kind = self._total_N[kept].astype(np.int64) * 4 + self._traces_N[kept]
            kinds, inverse, count = np.unique(-kind, return_inverse=True, return_counts=True)
            slots = pack_all(np.stack([-kinds // 4, -kinds % 4], 1), count, self.row_length, self.max_segments)
            self._kind_of_kept = inverse.astype(np.int32)
            self._slot_rows = np.concatenate(slots)
            self._all_rows = int(self._slot_rows.max()) + 1
            self.steps_per_epoch = self._steps(self._all_rows, self._each, "rows")
            self.rows = self._each
        self.num_steps = self.epochs * self.steps_per_epoch

    def _steps(self, there: int, each: int, what: str) -> int:
        if self._leftover == "pad":
            return math.ceil(there / each)
        if there < each:
            raise UserError(f"plan: {there} {what} do not make one batch of {each}, and leftovers are dropped")
        return there // each

    def _packed_steps(self, epoch: int) -> tuple[np.ndarray, np.ndarray, int]:
        """`batch_traces`: the epoch's bundles in order, the row of each in its step, and the most rows of a step."""
        order = self._kept[_permutation(self._kept.size, self.seed, epoch, 0)]
        order = order[: self.steps_per_epoch * self._each]
        missing = self.steps_per_epoch * self._each - order.size
        grid = np.pad(order, (0, missing), constant_values=-1).reshape(self.steps_per_epoch, self._each)
        length = np.where(grid < 0, 0, self._total_N[grid])
        row, used = pack_steps(length, self._traces_N[grid], self.row_length, self.max_segments)
        return order, row.reshape(-1)[: order.size], int(used.max())

    def _rows_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's bundles, and the row of each counted through the epoch."""
        if not self._by_rows:
            order, row, _ = self._packed_steps(epoch)
            return order, np.arange(order.size) // self._each * self.rows + row
        order = _permutation(self._kept.size, self.seed, epoch, 0)
        order = order[np.argsort(self._kind_of_kept[order], kind="stable")]
        row = _permutation(self._all_rows, self.seed, epoch, 1)[self._slot_rows]
        used = row < self.steps_per_epoch * self.rows
        return self._kept[order[used]], row[used]

    def _epoch(self, epoch: int) -> tuple[Layout, np.ndarray]:
        """The layout of an epoch and where each of its rows begins; the last two are kept."""
        with self._lock:
            if epoch not in self._layouts:
                if len(self._layouts) > 1:
                    del self._layouts[min(self._layouts, key=lambda other: (other == epoch - 1, other))]
                self._layouts[epoch] = self._lay_out(epoch)
            return self._layouts[epoch]

    def _lay_out(self, epoch: int) -> tuple[Layout, np.ndarray]:
        bundle, row = self._rows_of(epoch)
        by_row = np.argsort(row, kind="stable")
        members = self._members_Nx2[bundle[by_row]]
        there = members >= 0
        trace = members[there]
        row = np.repeat(row[by_row], there.sum(axis=1))
        paired = np.repeat(there[:, 1], there.sum(axis=1))
        ends = np.searchsorted(row, np.arange(self.steps_per_epoch * self.rows + 1))
        first = ends[row]
        length = self.planned_lengths[trace]
        start = np.cumsum(length, dtype=np.int64) - length
        before = np.cumsum(paired) - paired
        layout = Layout(
            trace_K=trace,
            row_K=row,
            offset_K=(start - start[first]).astype(np.int32),
            length_K=length,
            segment_K=(np.arange(trace.size) - first + 1).astype(np.int32),
            pair_K=np.where(paired, before - before[first], -1).astype(np.int32),
        )
        return layout, ends

    def _count(self) -> None:
        layout, ends = self._epoch(0)
        tokens = int(layout.length_K.sum(dtype=np.int64))
        slots = self.steps_per_epoch * self.rows * self.row_length
        singles = int((layout.pair_K < 0).sum())
        placed = singles + (layout.trace_K.size - singles) // 2
        self.counts |= {
            "left_over": int(self._kept.size - placed),
            "tokens": tokens,
            "slots": slots,
            "empty_rows": int((np.diff(ends) == 0).sum()),
        }
        self.fill = tokens / slots


def rescale(learning_rate: float, traces_per_step: float, reference_traces: float) -> float:
    """The learning rate for steps of more traces than the reference's, at an unchanged number of epochs (ours).

        lr' = lr · sqrt(traces_per_step / reference_traces)

    With Adam, batch × k, rate × sqrt(k) and steps / k follow the same stochastic differential equation (Malladi et al.
    2022, arXiv:2205.10252, section 5; its changes of beta and epsilon are left out). Steps / k is what an equal number
    of epochs gives, so epochs stay. Which papers' numbers survive this is not measured here.

    >>> rescale(1e-5, traces_per_step=32, reference_traces=8)
    2e-05
    """
    return learning_rate * math.sqrt(traces_per_step / reference_traces)


def _bundles(traces: int, pairs_Px2: np.ndarray | None) -> np.ndarray:
    """(bundles, 2) trace numbers, the second -1 where a trace stands alone."""
    pairs = np.zeros((0, 2), np.int64) if pairs_Px2 is None else np.asarray(pairs_Px2, np.int64).reshape(-1, 2)
    times = np.bincount(pairs.ravel(), minlength=traces) if not pairs.size or pairs.min() >= 0 else np.array([2])
    if times.size > traces or times.max(initial=0) > 1:
        raise UserError(f"plan: a pair names a trace twice, or one beyond the {traces} there are")
    alone = np.flatnonzero(times == 0)
    return np.concatenate([np.stack([alone, np.full(alone.size, -1)], 1), pairs]).astype(np.int32)


def _permutation(size: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """A shuffle by sorting the raw output of a counter-based generator, which no NumPy release changes."""
    key = np.random.SeedSequence([seed, epoch, stream]).generate_state(2, np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(size), kind="stable").astype(np.int32)
