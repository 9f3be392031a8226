"""Histograms that add over micro-batches and devices: counts over bins that are the same for every metric."""

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.objectives.objective import sum_type

_MAGNITUDES = [*np.outer(10.0 ** np.arange(-4, 1), [1, 2, 5]).ravel().tolist(), 10.0]
EDGES: tuple[float, ...] = (*(-m for m in reversed(_MAGNITUDES)), *_MAGNITUDES)
BINS = len(EDGES) + 1  # the first and the last are open


def histogram(values_BxT: jax.Array, mask_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(counts, total) of the values under a mask, as a metric: 1-2-5 steps from 0.0001 to 10 on both sides of 0.

    Bin i holds EDGES[i - 1] <= x < EDGES[i].

    >>> counts, total = histogram(np.float32([[0, 0, 0.15, -1e4, 7]]), np.float32([[1, 1, 1, 1, 0]]))
    >>> {i: int(n) for i, n in enumerate(counts) if n}, float(total)
    ({0: 1, 16: 2, 26: 1}, 4.0)
    """
    dtype = sum_type(values_BxT)
    edges = jnp.asarray(EDGES, dtype)
    counted_BxT = (jnp.asarray(mask_BxT) > 0).astype(dtype)
    # Counts below each edge instead of a scatter into bins: one fused pass.
    below = jnp.sum(counted_BxT[..., None] * (values_BxT[..., None] < edges), axis=(0, 1))
    total = jnp.sum(counted_BxT)
    return jnp.diff(below, prepend=0.0, append=total), total


def quantile(counts: np.ndarray, share: float) -> float:
    """The value below which a share of what was counted lies, interpolated within its bin; open bins end at an edge.

    >>> quantile(np.eye(BINS)[16], 0.5)
    0.0
    """
    ends = np.concatenate([[0.0], np.cumsum(counts)])
    at = int(np.searchsorted(ends[1:], share * ends[-1]))
    low, high = EDGES[max(at - 1, 0)], EDGES[min(at, len(EDGES) - 1)]
    inside = (share * ends[-1] - ends[at]) / counts[at] if counts[at] else 0.0
    return float(low + (high - low) * inside)
