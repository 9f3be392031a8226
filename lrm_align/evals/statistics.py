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
