"""Sums over the traces of packed rows, and histograms that add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.batch import Batch
from lrm_align.objectives.histogram import BINS, EDGES, histogram, quantile
from lrm_align.objectives.segments import WIDEST_MASK, num_segments, segment_sum, spread

IDS = np.int32([[1, 1, 2, 3, 3, 0], [1, 2, 2, 2, 0, 0]])


@given(st.integers(0, 2**16))
def test_sum_and_spread(seed):
    values = np.random.default_rng(seed).normal(size=IDS.shape).astype(np.float32)
    sums = segment_sum(values, IDS, 4)
    for row in range(2):
        for s in range(1, 5):
            np.testing.assert_allclose(sums[row, s - 1], values[row, IDS[row] == s].sum(), atol=1e-6)
    back = spread(sums, IDS)
    assert (back[IDS == 0] == 0).all()
    for row in range(2):
        for t in np.flatnonzero(IDS[row]):
            assert back[row, t] == sums[row, IDS[row, t] - 1]


@pytest.mark.parametrize("seed", range(3))
def test_many_traces_are_summed_as_few_are(seed):
    """Beyond `WIDEST_MASK` another way is taken; traces beyond S are dropped by both."""
    values = np.random.default_rng(seed).normal(size=IDS.shape).astype(np.float32)
    many = WIDEST_MASK + 1

    def both(values, width):
        sums = segment_sum(values, IDS, width)
        return sums[:, :4], spread(sums, IDS)

    few, wide = both(values, 4), both(values, many)
    for a, b in zip(few, wide):
        np.testing.assert_allclose(a, b, atol=1e-6)
    few, wide = (jax.grad(lambda v, w=w: (both(v, w)[1] * values**2).sum())(values) for w in (4, many))
    np.testing.assert_allclose(few, wide, atol=1e-6)
    far = np.where(IDS == 3, many + 5, IDS)
    assert (spread(segment_sum(values, far, many), far)[far > many] == 0).all()
    assert np.isfinite(segment_sum(np.where(IDS == 0, np.nan, values), IDS, many)).all()


def test_gradients_are_each_other():
    sums = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    transposed = jax.vjp(lambda v: segment_sum(v, IDS, 4), jnp.zeros(IDS.shape))[1](sums)[0]
    np.testing.assert_allclose(transposed, spread(sums, IDS))


def test_a_padding_value_that_is_not_finite_is_dropped():
    values = np.where(IDS == 0, np.nan, 1.0)
    assert np.isfinite(segment_sum(values, IDS, 4)).all()


def test_number_of_segments():
    batch = Batch(IDS, IDS, IDS, IDS)
    assert num_segments(batch) == 6
    assert num_segments(batch.replace(pair_BxS=np.zeros((2, 3)))) == 3
    assert num_segments(batch.replace(truncated_BxS=np.zeros((2, 5)))) == 5


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_histogram_counts_as_numpy_does(values):
    row, mask = np.zeros((1, 40), np.float32), np.zeros((1, 40), np.float32)
    row[0, : len(values)], mask[0, : len(values)] = values, 1
    counts, total = histogram(row, mask)
    wanted = np.digitize(np.float32(values), np.float32(EDGES))
    np.testing.assert_array_equal(counts, np.bincount(wanted, minlength=BINS))
    assert total == len(values)
    nothing, none = histogram(row, 0 * mask)
    assert none == 0 and (nothing == 0).all()


def test_quantiles_lie_within_their_bin():
    values = np.random.default_rng(0).normal(0, 0.3, (1, 5000)).astype(np.float32)
    counts = np.asarray(histogram(values, np.ones_like(values))[0])
    for share in (0.05, 0.5, 0.95):
        exact, found = np.quantile(values, share), quantile(counts, share)
        assert np.digitize(exact, EDGES) in {np.digitize(found, EDGES) + step for step in (-1, 0, 1)}
    assert quantile(np.eye(BINS)[0], 0.5) == EDGES[0] and quantile(np.eye(BINS)[-1], 0.5) == EDGES[-1]
