"""Intervals and spreads of measured rates."""

import math
from collections.abc import Sequence


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
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


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
