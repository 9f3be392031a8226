"""Perplexity of sets: its interval, and that its resamples are not all in memory at once."""

import tracemalloc

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.evals.perplexity import perplexity


def test_the_interval_is_that_of_all_draws_at_once():
    random = np.random.default_rng(3)
    tokens = random.integers(5, 50, 40)
    losses = tokens * random.uniform(0.5, 2.0, 40)
    found = perplexity(losses.tolist(), tokens.tolist(), resamples=400)
    draws = np.random.default_rng(0).integers(0, 40, (400, 40))
    every = np.exp(losses[draws].sum(axis=1) / tokens[draws].sum(axis=1))
    assert found["interval"] == pytest.approx(np.percentile(every, [2.5, 97.5]))
    assert found["interval"][0] < found["perplexity"] < found["interval"][1]


def test_many_traces_take_no_more_memory_than_a_few_draws():
    tracemalloc.start()
    perplexity([1.0] * 8000, [1] * 8000, resamples=300)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6, "300 draws of 8,000 are 19 MB"


def test_an_empty_span_is_one_line():
    with pytest.raises(UserError, match="not one token of 2 traces"):
        perplexity([0.0, 0.0], [0, 0])
