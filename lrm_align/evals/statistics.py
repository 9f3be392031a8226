"""Intervals and spreads of measured rates."""

import math
from collections.abc import Sequence

import numpy as np


def wilson(rate: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a rate seen in `count` independent trials (Wilson 1927), 95 % by default.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    >>> [round(bound, 3) for bound in wilson(0.0, 100)]
    [0.0, 0.037]
    """
    if count < 1:
        return 0.0, 1.0
    square = z * z / count
    middle = rate + square / 2
    half = math.sqrt(square * (rate * (1 - rate) + square / 4))
    # Rounding must not leave the rate outside its own interval.
    return max(0.0, min(rate, (middle - half) / (1 + square))), min(1.0, max(rate, (middle + half) / (1 + square)))


def bootstrap(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of a mean, resampling its values (Efron 1979).

    Samples of one prompt are not independent, so the values are one a prompt: its own mean.

    >>> bootstrap([0.0, 1.0] * 50) == bootstrap([0.0, 1.0] * 50), bootstrap([1.0] * 9)
    (True, (1.0, 1.0))

    Args:
      values: one a prompt.
      resamples: means that are drawn.
      seed: of the draws, so that a report can be made again.
    """
    if not values:
        return 0.0, 1.0
    return _percentiles(_resampled(values, resamples, np.random.default_rng(seed)))


def bootstrap_average(columns: Sequence[Sequence[float]], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """`bootstrap` of the plain mean of several means: the prompts of each column are resampled on their own.

    >>> bootstrap_average([[1.0, 1.0], [0.0, 0.0, 0.0]])
    (0.5, 0.5)
    """
    if not columns or not all(columns):
        return 0.0, 1.0
    random = np.random.default_rng(seed)
    return _percentiles(np.mean([_resampled(values, resamples, random) for values in columns], axis=0))


def _resampled(values: Sequence[float], resamples: int, random: np.random.Generator) -> np.ndarray:
    array = np.asarray(values, np.float64)
    step = max(1, 2**20 // array.size)  # resamples at a time: all of a large benchmark's would be gigabytes
    counts = [min(step, resamples - start) for start in range(0, resamples, step)]
    drawn = [array[random.integers(0, array.size, (count, array.size))].mean(axis=1) for count in counts]
    return np.concatenate(drawn)


def _percentiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the spread of one value is 0.

    >>> mean_and_spread([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ: the correlation of ranks, equal values sharing the mean of theirs (Spearman 1904).

    Where one side has no two different values there is no order to agree with, and ρ is 0.

    >>> rank_correlation([1, 2, 3], [10, 20, 20]), rank_correlation([1, 2, 3], [5, 5, 5])
    (0.8660..., 0.0)

    Raises:
      ValueError: sides of different lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values are to be compared with {len(second)}")
    (x, y), n = (_ranks(first), _ranks(second)), len(first)
    middle = (n + 1) / 2  # of the ranks, ties or not
    product = sum((a - middle) * (b - middle) for a, b in zip(x, y, strict=True))
    squares = [sum((rank - middle) ** 2 for rank in ranks) for ranks in (x, y)]
    return product / math.sqrt(squares[0] * squares[1]) if all(squares) else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties at their mean."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for i in order[start:end]:
                ranks[i] = (start + 1 + end) / 2
            start = end
    return ranks
