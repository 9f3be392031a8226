"""Spearman's correlation with ties, against SciPy where it is there and against a plain computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.evals.statistics import rank_correlation


def test_no_ties_is_the_textbook_formula():
    x, y = [3, 1, 4, 9, 5], [2, 7, 1, 8, 0]
    d = np.argsort(np.argsort(x)) - np.argsort(np.argsort(y))
    assert rank_correlation(x, y) == pytest.approx(1 - 6 * (d**2).sum() / (5 * 24))


def test_order_and_its_reverse():
    assert rank_correlation([1, 2, 3], [10, 20, 99]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 12)), min_size=2, max_size=60))
def test_equals_the_correlation_of_mean_ranks(pairs):
    def ranks(values):
        return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]

    x, y = (ranks(side) for side in zip(*pairs))
    found = rank_correlation(*zip(*pairs))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_nothing_to_compare():
    assert rank_correlation([], []) == 0
    with pytest.raises(ValueError):
        rank_correlation([1], [])
