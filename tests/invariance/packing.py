"""The same eleven traces laid out in rows in any way, with every column that a batch can have and all scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrm_align.batch import Batch
from lrm_align.training.scores import KNOWN

ROWS, LENGTH, SEGMENTS = 8, 24, 4
TAGS = ("harmful", "benign")
# Three pairs (chosen, rejected) and five traces that stand alone.
PAIRS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 0, 5: 1}
PACKED = ((0, 1, 6), (2, 3, 7, 8), (4, 5, 9), (10,))
UNPACKED = ((0, 1), (2, 3), (4, 5), (6,), (7,), (8,), (9,), (10,))
SEGMENTS_REVERSED = tuple(row[::-1] for row in PACKED)
ROWS_PERMUTED = (PACKED[2], (), PACKED[0], PACKED[3], (), PACKED[1])
UNTRAINED = (5, 8)  # the rejected side of a pair, and a trace by itself
SHARED = 3  # tokens that both answers of a pair begin with


class Traces(NamedTuple):
    """Eleven traces; the tokens of one stand behind those of another.

    Attributes:
      length: tokens of each.
      token: {column or score: value of each token}.
      trace: {column: value of each trace}.
    """

    length: np.ndarray
    token: dict[str, np.ndarray]
    trace: dict[str, np.ndarray]


class Rows(NamedTuple):
    """Traces laid out in rows.

    Attributes:
      batch: with all columns.
      scores: {name: BxT}.
      place: where each token of each trace stands in the flat rows.
    """

    batch: Batch
    scores: dict[str, np.ndarray]
    place: np.ndarray

    def by_token(self, values_BxT: np.ndarray) -> np.ndarray:
        """Values in the order of the traces' tokens, so that layouts can be compared."""
        return np.asarray(values_BxT).reshape(-1)[self.place]


def traces(seed: int, vocab: int = 64, dtype: type = np.float64) -> Traces:
    """Random ones; log-probabilities as near to each other as those of policies in a run are."""
    rng = np.random.default_rng(seed)
    length = rng.integers(4, 7, 11)
    length[[2, 3]] = 6, 5  # pairs of unequal length
    starts = np.cumsum(length) - length
    total = int(length.sum())

    def noise(size: float) -> np.ndarray:
        return rng.normal(0, size, total).astype(dtype)

    mask = rng.integers(0, 2, total).astype(dtype)
    for number, (start, size) in enumerate(zip(starts, length)):
        mask[start + size - 1] = 1
        mask[start : start + (size if number in UNTRAINED else 1)] = 0
    tokens = rng.integers(1, vocab, total)
    for chosen in (0, 2, 4):
        for at in range(SHARED):
            tokens[starts[chosen + 1] + at] = tokens[starts[chosen] + at]
    logp = noise(1.0) - 2
    old = logp + noise(0.3)
    advantage = rng.normal(0, 1, 11).astype(dtype)
    advantage[7] = 0
    token = {
        "tokens_BxT": tokens.astype(np.int32),
        "loss_mask_BxT": mask,
        "advantage_BxT": np.repeat(advantage, length),
        "old_logp_BxT": old,
        "ref_logp_BxT": logp + noise(0.5),
        "sampler_logp_BxT": old + noise(0.2),
        "logp": logp,
        "reference.logp": logp + noise(0.5),
        "entropy": rng.uniform(0.1, 3, total).astype(dtype),
        "kl_forward": rng.uniform(0, 1, total).astype(dtype),
        "kl_reverse": rng.uniform(0, 1, total).astype(dtype),
    }
    trace = {
        "tag_BxS": np.array([0, 0, 1, 1, 0, 0, 1, 0, -1, 0, 1], np.int32),
        "pair_BxS": np.array([PAIRS.get(number, -1) for number in range(11)], np.int32),
        "truncated_BxS": (np.arange(11) == 6).astype(dtype),
    }
    return Traces(length, token, trace)


def pack(of: Traces, rows: Sequence[Sequence[int]], padding: float = 0.0) -> Rows:
    """Lays traces out, and other values into the padding where asked to."""
    starts = np.cumsum(of.length) - of.length
    flat = {name: np.full(ROWS * LENGTH, padding).astype(values.dtype) for name, values in of.token.items()}
    flat["loss_mask_BxT"][:] = 0
    segment_ids, positions = (np.zeros(ROWS * LENGTH, np.int32) for _ in range(2))
    positions[:] = padding
    by_trace = {name: np.full((ROWS, SEGMENTS), -1).astype(values.dtype) for name, values in of.trace.items()}
    place = np.full(int(of.length.sum()), -1)
    for row, numbers in enumerate(rows):
        at = row * LENGTH
        for segment, number in enumerate(numbers, 1):
            size, start = of.length[number], starts[number]
            for name, values in of.token.items():
                flat[name][at : at + size] = values[start : start + size]
            segment_ids[at : at + size], positions[at : at + size] = segment, np.arange(size)
            place[start : start + size] = np.arange(at, at + size)
            for name, values in of.trace.items():
                by_trace[name][row, segment - 1] = values[number]
            at += size
        assert at <= (row + 1) * LENGTH
    grid = {name: values.reshape(ROWS, LENGTH) for name, values in flat.items()}
    columns = {name: values for name, values in grid.items() if name not in KNOWN}
    batch = Batch(
        segment_ids_BxT=segment_ids.reshape(ROWS, LENGTH),
        positions_BxT=positions.reshape(ROWS, LENGTH),
        **columns,
        **by_trace,
        tag_names=TAGS,
    )
    return Rows(batch, {name: grid[name] for name in KNOWN}, place)
