"""Packing traces into rows of one length: two packers, both best-fit decreasing, both fast on a million traces.

The packing unit is a bundle (a trace, or a preference pair): it is never split over rows. A row holds at most
`max_segments` traces, since per-segment arrays are static. Both functions see lengths only, so that a plan never
opens a shard.
"""

import bisect
import dataclasses

import numpy as np


@dataclasses.dataclass
class _Rows:
    """`count` rows that are filled alike: `segments` traces each, put there class by class (`history`)."""

    count: int
    segments: int
    history: tuple  # ((…), class, times): a list that rows share with the rows they were split from


def pack_all(classes_KxA: np.ndarray, count_K: np.ndarray, row_length: int, max_segments: int) -> list[np.ndarray]:
    """Packs everything into as few rows as best-fit decreasing finds.

    Works on the histogram of lengths: rows that are filled alike are one entry with a count, so that the time depends
    on the number of distinct lengths, not of traces (the idea of histogram packing: Krell et al. 2021,
    arXiv:2107.02027, section 3; the best-fit rule is ours).

    >>> [rows.tolist() for rows in pack_all(np.array([[6, 1], [4, 1], [2, 1]]), np.array([2, 2, 3]), 10, 8)]
    [[0, 1], [0, 1], [2, 2, 2]]

    Args:
      classes_KxA: length in tokens and number of traces of each kind of bundle, longest first; A = 2.
      count_K: bundles of each kind.
      row_length: tokens in a row; at least the longest length.
      max_segments: traces in a row; at least the most that a bundle has.

    Returns:
      for each kind the row number of each of its bundles; rows are numbered from 0 without gaps.
    """
    open_rows: dict[int, list[_Rows]] = {}  # free tokens -> rows
    free: list[int] = []  # the keys of open_rows, ascending
    full: list[_Rows] = []
    shortest = int(classes_KxA[-1, 0]) if len(classes_KxA) else 0
    fewest = int(classes_KxA[:, 1].min()) if len(classes_KxA) else 1

    def keep(left: int, rows: _Rows) -> None:
        if left < shortest or rows.segments + fewest > max_segments:
            full.append(rows)
        elif left in open_rows:
            open_rows[left].append(rows)
        else:
            open_rows[left] = [rows]
            bisect.insort(free, left)

    def tightest(length: int, traces: int) -> tuple[int, _Rows | None]:
        for left in free[bisect.bisect_left(free, length) :]:
            for rows in open_rows[left]:
                if rows.segments + traces <= max_segments:
                    return left, rows
        return row_length, None

    for number, (length, traces) in enumerate(classes_KxA.tolist()):
        todo = int(count_K[number])
        while todo:
            left, rows = tightest(length, traces)
            segments, history, there = (0, (), todo) if rows is None else (rows.segments, rows.history, rows.count)
            # Having taken one, a row is the tightest for the next of the same length: it is filled before another is.
            each = min(left // length, (max_segments - segments) // traces, todo)
            used = min(there, todo // each)
            if rows is not None:
                rows.count -= used
                if not rows.count:
                    open_rows[left].remove(rows)
                    if not open_rows[left]:
                        del open_rows[left]
                        free.remove(left)
            keep(left - each * length, _Rows(used, segments + each * traces, (history, number, each)))
            todo -= used * each

    placed: list[list[np.ndarray]] = [[np.empty(0, np.int32)] for _ in count_K]
    first = 0
    for rows in full + [rows for entry in open_rows.values() for rows in entry]:
        history = rows.history
        while history:
            history, number, times = history
            placed[number].append(np.repeat(np.arange(first, first + rows.count, dtype=np.int32), times))
        first += rows.count
    return [np.concatenate(parts) for parts in placed]


def pack_steps(
    length_ExI: np.ndarray, traces_ExI: np.ndarray, row_length: int, max_segments: int
) -> tuple[np.ndarray, np.ndarray]:
    """Packs each step's bundles by themselves, all steps at once.

    >>> row, count = pack_steps(np.array([[2, 6, 4, 6], [9, 9, 0, 0]]), np.ones((2, 4), int), 10, 8)
    >>> row.tolist(), count.tolist()
    ([[1, 0, 0, 1], [0, 1, -1, -1]], [2, 2])

    Args:
      length_ExI: tokens of each of the I bundles of each of the E steps; 0 where the last step has fewer.
      traces_ExI: traces of each bundle.
      row_length: tokens in a row.
      max_segments: traces in a row.

    Returns:
      row_ExI: the row in its step of each bundle, -1 where there is none; and the number of rows that each step fills.
    """
    steps, items = length_ExI.shape
    order_ExI = np.argsort(-length_ExI, axis=1, kind="stable")
    rows = max(1, int(length_ExI.sum(axis=1).max(initial=0)) // row_length)
    left_ExR = np.full((steps, rows), row_length, np.int32)
    segments_ExR = np.zeros((steps, rows), np.int32)
    row_ExI = np.full((steps, items), -1, np.int32)
    all_steps = np.arange(steps)
    for item in range(items):
        column_E = order_ExI[:, item]
        length_E = length_ExI[all_steps, column_E]
        traces_E = traces_ExI[all_steps, column_E]
        fits_ExR = (left_ExR >= length_E[:, None]) & (segments_ExR + traces_E[:, None] <= max_segments)
        if not (fits_ExR.any(axis=1) | (length_E == 0)).all():
            left_ExR = np.pad(left_ExR, ((0, 0), (0, 1)), constant_values=row_length)
            segments_ExR = np.pad(segments_ExR, ((0, 0), (0, 1)))
            fits_ExR = np.pad(fits_ExR, ((0, 0), (0, 1)), constant_values=True)
        best_E = np.where(fits_ExR, left_ExR, row_length + 1).argmin(axis=1)
        there = np.flatnonzero(length_E)
        row_ExI[there, column_E[there]] = best_E[there]
        left_ExR[there, best_E[there]] -= length_E[there].astype(np.int32)
        segments_ExR[there, best_E[there]] += traces_E[there].astype(np.int32)
    return row_ExI, row_ExI.max(axis=1, initial=-1) + 1
