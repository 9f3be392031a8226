"""Rates, passes, intervals and named averages, against their definitions and against published tables."""

import itertools
import math

import numpy as np
import pytest

from lrm_align.evals.averages import AVERAGES, averages
from lrm_align.evals.passes import ladder, pass_at_k, passes
from lrm_align.evals.statistics import bootstrap, bootstrap_average, wilson
from lrm_align.evals.summary import Verdict, by_prompt, summarised


def verdict(id, value, sample=0, text="<think>t</think>a", finished=True, reason=None, kind="k", parts=None):
    return Verdict(id, sample, kind, "q", None, text, finished, value, parts or {}, reason)


@pytest.mark.parametrize(("right", "samples"), [(0, 4), (1, 4), (3, 5), (6, 6)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(right, samples):
    values = [1] * right + [0] * (samples - right)
    for k in range(1, samples + 1):
        draws = list(itertools.combinations(values, k))
        assert pass_at_k(right, samples, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(ValueError):
        pass_at_k(right, samples, samples + 1)
    assert ladder(samples)[-1] == samples


def test_intervals_cover():
    random = np.random.default_rng(0)
    hits = {"wilson": 0, "bootstrap": 0}
    for _ in range(300):
        drawn = (random.random(80) < 0.3).astype(float).tolist()
        for name, (low, high) in (
            ("wilson", wilson(sum(drawn) / 80, 80)),
            ("bootstrap", bootstrap(drawn, resamples=300)),
        ):
            hits[name] += low <= 0.3 <= high
    assert 0.91 <= hits["wilson"] / 300 <= 0.99 and 0.90 <= hits["bootstrap"] / 300 <= 0.99


def test_the_bootstrap_of_an_average_is_as_wide_as_independent_columns_make_it():
    random = np.random.default_rng(1)
    columns = [(random.random(size) < p).astype(float).tolist() for size, p in ((300, 0.4), (250, 0.1), (400, 0.7))]
    low, high = bootstrap_average(columns)
    deviation = math.sqrt(sum(np.var(column) / len(column) for column in columns)) / len(columns)
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert low < np.mean([np.mean(column) for column in columns]) < high


def test_samples_of_a_prompt_are_no_independent_trials():
    rights = [verdict(str(i), float(i % 2), sample) for i in range(40) for sample in range(8)]
    found = summarised(rights, "accuracy")
    low, high = found["interval"]
    narrow = wilson(0.5, 320)
    assert found["rate"] == 0.5 and high - low > 2 * (narrow[1] - narrow[0]) and "bootstrap" in found["interval_kind"]
    assert found["pass_at_k"]["8"]["value"] == 0.5 and found["judged"] == 320 and found["prompts"] == 40
    assert passes(list(by_prompt(rights).values())).keys() == {1, 2, 4, 8}


def test_what_was_not_decided_or_not_finished_is_counted_apart_and_in_no_rate():
    verdicts = [
        verdict("a", 1.0),
        verdict("b", 0.0),
        verdict("c", None, reason="undecidable: 0.12"),
        verdict("d", None, reason="undecidable: 0.34"),
        verdict("e", None, reason="no answer", text="<think>t", finished=False),
        verdict("f", 1.0, text="<think>t", finished=False),
    ]
    found = summarised(verdicts, "attack_success_rate")
    assert found["rate"] == pytest.approx(2 / 3) and found["rate_of_finished"] == 0.5
    assert found["interval"] == list(wilson(2 / 3, 3)) and found["judged"] == 3 and found["responses"] == 6
    assert found["undecided"] == {"undecidable": 2, "no answer": 1}
    assert found["unfinished_thoughts"] == 2 and found["truncated"] == 2 and "pass_at_k" not in found


def test_a_judge_that_decides_nothing_gives_no_rate():
    found = summarised([verdict("a", None, reason="it refuses to judge")], "over_refusal_rate")
    assert found["rate"] is None and found["interval"] is None and found["undecided"] == {"it refuses to judge": 1}


def test_kinds_have_their_rates():
    found = summarised(
        [verdict("a", 1.0, kind="x"), verdict("b", 0.0, kind="x"), verdict("c", 1.0, kind="y")], "m_rate"
    )
    assert found["by_kind"] == {"x": {"rate": 0.5, "prompts": 2}, "y": {"rate": 1.0, "prompts": 1}}


# ThinkSafe, arXiv 2601.23143: rows of its tables, the four columns and the printed average.
@pytest.mark.parametrize(
    ("columns", "printed"),
    [((38.54, 5.75, 35.75, 61.60), 35.41), ((35.71, 5.11, 36.45, 1.60), 19.72), ((47.34, 57.51, 43.85, 1.60), 37.58)],
)
def test_the_safety_average_is_that_of_the_papers_tables(columns, printed):
    names = AVERAGES["thinksafe_safety_average"].columns
    rates = {name: [rate / 100] * count for (name, count), rate in zip(names.items(), columns)}
    found = averages(rates)
    assert set(found) == {"thinksafe_safety_average"} and not found["thinksafe_safety_average"]["short"]
    assert 100 * found["thinksafe_safety_average"]["value"] == pytest.approx(printed, abs=0.006)


def test_averages_need_all_their_columns_and_name_those_that_are_short():
    rates = {name: [1.0] for name in ("thinksafe_harmbench", "strongreject", "wildjailbreak")}
    assert averages(rates) == {}
    assert averages({**rates, "xstest": []}) == {}
    found = averages({**rates, "xstest": [0.0] * 250})["thinksafe_safety_average"]
    assert found["value"] == 0.75 and found["short"] == dict.fromkeys(rates, 1)
