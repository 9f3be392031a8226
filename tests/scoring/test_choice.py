"""Batches of the guard's forward pass: every row once, few shapes."""

import itertools

import hypothesis
import hypothesis.strategies as st

from lrm_align.scoring.choice import batches, buckets


@hypothesis.given(st.lists(st.integers(1, 3000), max_size=60), st.integers(1, 20_000), st.sampled_from([1, 4]))
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_row_is_judged_once_in_a_shape_that_its_length_decides(lengths, tokens, multiple):
    seen, shapes = [], {}
    for numbers, rows, size in batches(lengths, buckets(3000), tokens, multiple):
        assert 0 < len(numbers) <= rows and rows % multiple == 0
        assert rows * size <= tokens or rows == multiple
        assert all(lengths[i] <= size for i in numbers)
        assert shapes.setdefault(size, rows) == rows
        seen += numbers
    assert sorted(seen) == list(range(len(lengths)))


def test_buckets_end_at_the_limit_and_grow_slowly():
    for longest in (100, 256, 257, 1000, 20_480):
        sizes = buckets(longest)
        assert sizes[-1] == longest and sizes == sorted(set(sizes))
        assert all(b <= 1.5 * a for a, b in itertools.pairwise(sizes))
