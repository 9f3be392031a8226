"""Intervals and spreads of measured rates."""

import math
from collections.abc import Sequence

import numpy as np

from lrm_align import limits


def wilson(rate: float, count: float, z: float = 1.959964) -> tuple[float, float]:
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

    Samples of one prompt are not independent, so the values are one a prompt: its own mean. Values that are all the
    same give an interval without width, and rare ones one that is too narrow: rates have `rate_interval`.

    >>> bootstrap([0.0, 1.0] * 50) == bootstrap([0.0, 1.0] * 50)
    True

    Args:
      values: one a prompt.
      resamples: means that are drawn.
      seed: of the draws, so that a report can be made again.

    Raises:
      UserError: no resample.
    """
    limits.count(resamples, "bootstrap: resamples", least=1)
    if not values:
        return 0.0, 1.0
    return _percentiles(_resampled(values, resamples, np.random.default_rng(seed)))


def rate_interval(means: Sequence[float], samples: int) -> tuple[float, float]:
    """95 % of a rate over prompts: Wilson's interval at the effective number of samples, or the bootstrap's if wider.

    The bootstrap over prompts is asked where there are several samples a prompt; of each bound the outer one is taken.
    effective = rate (1 - rate) / variance of the rate (Kish 1965), which is the number of prompts where the samples of
    a prompt always agree and that of all samples where a prompt says nothing of its samples; between the two here,
    and the number of prompts where no prompt differs from another and there is no variance to see.

    >>> [round(bound, 3) for bound in rate_interval([1.0] * 30, 240)], rate_interval([0.0, 1.0], 2) == wilson(0.5, 2)
    ([0.886, 1.0], True)

    Args:
      means: one a prompt, the mean over its samples.
      samples: of all prompts together.
    """
    if not means:
        return 0.0, 1.0
    rate, prompts, variance = sum(means) / len(means), len(means), float(np.var(means))
    effective = rate * (1 - rate) * prompts / variance if variance > 0 else prompts
    low, high = wilson(rate, min(max(effective, prompts), max(samples, prompts)))
    if samples <= prompts:
        return low, high
    below, above = bootstrap(means)
    return min(low, below), max(high, above)


def average_interval(rates: Sequence[float], intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the plain mean of independent rates, from their own intervals (MOVER: Zou, Huang & Zhang 2009).

    mean - √Σ(rate - low)² / J, mean + √Σ(high - rate)² / J for J rates

    >>> [round(bound, 3) for bound in average_interval([0.5, 0.0], [(0.4, 0.6), (0.0, 0.2)])]
    [0.2, 0.362]

    Args:
      rates: the columns.
      intervals: theirs.
    """
    mean = sum(rates) / len(rates)
    below = math.sqrt(sum((rate - low) ** 2 for rate, (low, _) in zip(rates, intervals, strict=True)))
    above = math.sqrt(sum((high - rate) ** 2 for rate, (_, high) in zip(rates, intervals, strict=True)))
    return max(0.0, mean - below / len(rates)), min(1.0, mean + above / len(rates))


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
