"""Several samples of a prompt: the mean over them, and the probability that one of k is right."""

import math
from collections.abc import Mapping, Sequence


def pass_at_k(right: int, samples: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), unbiased for c right of n samples (Chen et al. 2021, arXiv 2107.03374, equation 1).

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 2), pass_at_k(0, 4, 4), pass_at_k(3, 4, 2)
    (0.25, 0.5, 0.0, 1.0)

    Raises:
      ValueError: k is not in 1…n.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples; k must be in 1…{samples}")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def ladder(samples: int) -> list[int]:
    """The k that are reported: powers of two, and all samples.

    >>> ladder(1), ladder(6), ladder(8)
    ([1], [1, 2, 4, 6], [1, 2, 4, 8])
    """
    powers = [2**i for i in range(samples.bit_length()) if 2**i <= samples]
    return powers if powers[-1] == samples else [*powers, samples]


def passes(rights: Sequence[Sequence[float]]) -> Mapping[int, list[float]]:
    """pass@k of each prompt, for the k of `ladder` that its samples reach; avg@n is the mean of each prompt's values.

    Args:
      rights: values in [0, 1] of the samples of each prompt; from 0.5 on a sample is right.
    """
    fewest = min((len(values) for values in rights), default=0)
    return {
        k: [pass_at_k(sum(value >= 0.5 for value in values), len(values), k) for values in rights]
        for k in (ladder(fewest) if fewest else [])
    }
