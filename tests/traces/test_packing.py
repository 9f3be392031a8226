import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.traces.packing import pack_all, pack_steps


def kinds(lengths, traces):
    """Histogram as `pack_all` wants it: longest first."""
    pairs, count = np.unique(np.stack([-np.asarray(lengths), np.asarray(traces)], 1), axis=0, return_counts=True)
    return pairs * np.array([-1, 1]), count


bundles = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([1, 1, 2])), min_size=1, max_size=60)


@given(bundles, st.integers(40, 90), st.integers(2, 9))
@settings(max_examples=150, deadline=None)
def test_all_bundles_are_placed_and_every_row_holds_its_own(bundles, row_length, max_segments):
    kinds_KxA, count_K = kinds(*zip(*bundles))
    rows = pack_all(kinds_KxA, count_K, row_length, max_segments)
    assert [len(numbers) for numbers in rows] == count_K.tolist()
    used, segments = {}, {}
    for (length, traces), numbers in zip(kinds_KxA.tolist(), rows):
        for row in numbers.tolist():
            used[row] = used.get(row, 0) + length
            segments[row] = segments.get(row, 0) + traces
    assert max(used.values()) <= row_length and max(segments.values()) <= max_segments
    assert sorted(used) == list(range(len(used)))  # no gaps, so no empty rows
    # No two rows could have been one: best fit never opens a row while another has room.
    if max_segments >= sum(segments.values()):
        assert sum(2 * used[row] <= row_length for row in used) <= 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12), st.integers(2, 6))
@settings(max_examples=100, deadline=None)
def test_each_step_is_packed_by_itself(seed, steps, items, max_segments):
    rng = np.random.default_rng(seed)
    length = rng.integers(0, 20, (steps, items))
    traces = rng.integers(1, 3, (steps, items))
    row, count = pack_steps(length, traces, 24, max_segments)
    assert ((row >= 0) == (length > 0)).all()
    for step in range(steps):
        for number in range(count[step]):
            there = row[step] == number
            assert there.any()
            assert length[step][there].sum() <= 24 and traces[step][there].sum() <= max_segments
        alone, used = pack_steps(length[step : step + 1], traces[step : step + 1], 24, max_segments)
        np.testing.assert_array_equal(alone[0], row[step])
        assert used[0] == count[step]


def test_lognormal_lengths_fill_the_rows():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(128), 1.0, 20_000).astype(int), 1, 512)
    kinds_KxA, count_K = kinds(lengths, np.ones_like(lengths))
    rows = 1 + max(numbers.max() for numbers in pack_all(kinds_KxA, count_K, 512, 64))
    assert lengths.sum() / (rows * 512) > 0.98
