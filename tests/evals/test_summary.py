"""Rates, passes, intervals and named averages, against their definitions and against published tables."""

import itertools
import math

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.evals import averages as averages_
from lrm_align.evals.averages import AVERAGES, averages
from lrm_align.evals.passes import ladder, pass_at_k, passes
from lrm_align.evals.statistics import average_interval, bootstrap, rate_interval, wilson
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


def rated(means, samples=1):
    return sum(means) / len(means), rate_interval(means, len(means) * samples)


@pytest.mark.parametrize(
    "rate, alike",  # alike: the correlation of a prompt's samples
    [(0.0, 0.0), (0.02, 0.0), (0.02, 0.3), (0.02, 1.0), (0.3, 0.0), (0.3, 0.3), (0.3, 1.0), (1.0, 0.0)],
)
def test_intervals_of_several_samples_cover(rate, alike, prompts=30, samples=8):
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        own = np.full(prompts, rate)
        if alike == 1:
            own = (random.random(prompts) < rate).astype(float)
        elif alike and 0 < rate < 1:
            own = random.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), prompts)
        means = (random.binomial(samples, own) / samples).tolist()
        low, high = rated(means, samples)[1]
        covered += low - 1e-9 <= rate <= high + 1e-9
    assert covered >= 0.92 * 200


def test_an_interval_of_samples_that_all_agree_is_that_of_as_many_prompts():
    assert rate_interval([1.0] * 30, 240) == wilson(1.0, 30) == (pytest.approx(0.8865, abs=1e-4), 1.0)
    assert rate_interval([0.0] * 30, 240) == wilson(0.0, 30)
    ones = [0.0] * 7 + [1.0] * 3
    assert rate_interval(ones, 10) == pytest.approx(wilson(0.3, 10)), "one sample a prompt is Wilson's"
    assert rate_interval([], 0) == (0.0, 1.0)
    low, high = rate_interval([0.5] * 20, 160)
    assert (low, high) == pytest.approx(wilson(0.5, 20)), "no variance to see is no certainty"


def test_the_interval_of_an_average_is_as_wide_as_independent_columns_make_it():
    random = np.random.default_rng(1)
    columns = [(random.random(size) < p).astype(float).tolist() for size, p in ((300, 0.4), (250, 0.1), (400, 0.7))]
    rates, intervals = zip(*map(rated, columns))
    low, high = average_interval(rates, intervals)
    deviation = math.sqrt(sum(np.var(column) / len(column) for column in columns)) / len(columns)
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert low < np.mean(rates) < high


@pytest.mark.parametrize("rates", [(0.0, 0.0, 0.0, 0.0), (0.0, 0.02, 0.05, 0.3), (1.0, 1.0, 1.0, 0.98)])
def test_intervals_of_averages_cover(rates):
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = [rated((random.random(20) < rate).astype(float).tolist()) for rate in rates]
        low, high = average_interval(*zip(*found))
        covered += low - 1e-9 <= sum(rates) / 4 <= high + 1e-9
        assert high - low > 0.02, "80 prompts without a hit are no certainty"
    assert covered >= 280


def test_samples_of_a_prompt_are_no_independent_trials():
    rights = [verdict(str(i), float(i % 2), sample) for i in range(40) for sample in range(8)]
    found = summarised(rights, "accuracy")
    low, high = found["interval"]
    narrow = wilson(0.5, 320)
    assert found["rate"] == 0.5 and high - low > 2 * (narrow[1] - narrow[0]) and "bootstrap" in found["interval_kind"]
    assert found["estimate"] == "avg@8"
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
    assert (
        found["interval"] == pytest.approx(wilson(2 / 3, 3))
        and found["estimate"] == ""
        and found["judged"] == 3
        and found["responses"] == 6
    )
    assert found["undecided"] == {"undecidable": 2, "no answer": 1}
    assert found["unfinished_thoughts"] == 2 and found["truncated"] == 2 and "pass_at_k" not in found


def test_a_judge_that_decides_nothing_gives_no_rate():
    found = summarised([verdict("a", None, reason="it refuses to judge")], "over_refusal_rate")
    assert found["rate"] is None and found["interval"] is None and found["undecided"] == {"it refuses to judge": 1}


def test_kinds_have_their_rates():
    found = summarised(
        [verdict("a", 1.0, kind="x"), verdict("b", 0.0, kind="x"), verdict("c", 1.0, kind="y")], "m_rate"
    )
    assert {kind: (one["rate"], one["prompts"], one["judged"]) for kind, one in found["by_kind"].items()} == {
        "x": (0.5, 2, 2),
        "y": (1.0, 1, 1),
    }


def test_every_rate_has_an_interval_and_its_counts():
    verdicts = [verdict(f"{i}", 1.0, sample, kind=f"k{i % 2}") for i in range(20) for sample in range(4)]
    verdicts += [verdict("x", 0.0, text="<think>t", finished=False, kind="k0")]
    found = summarised(verdicts, "accuracy")
    for one in (found["finished"], *found["by_kind"].values()):
        assert one["interval"][0] <= one["rate"] <= one["interval"][1] and one["interval"][0] < 0.9
    assert found["finished"]["prompts"] == 20 and found["finished"]["judged"] == 80
    assert found["finished"]["interval"] == list(wilson(1.0, 20)) and found["by_kind"]["k1"]["judged"] == 40
    assert found["pass_at_k"]["1"]["interval"][0] < 0.95, "and so has every pass@k"


def measured(benchmark, rate, **changes):
    column = {name: one for average in AVERAGES.values() for name, one in average.columns.items()}[benchmark]
    made = {"benchmark": benchmark, "rate": rate, "interval": wilson(rate, column.prompts)}
    made |= {"judged_prompts": column.prompts, "judge": f"{column.judge} model:0123", "samples": column.samples}
    return {**made, "part": column.part, **changes}


# ThinkSafe, arXiv 2601.23143: rows of its tables, the four columns and the printed average.
@pytest.mark.parametrize(
    ("columns", "printed"),
    [((38.54, 5.75, 35.75, 61.60), 35.41), ((35.71, 5.11, 36.45, 1.60), 19.72), ((47.34, 57.51, 43.85, 1.60), 37.58)],
)
def test_the_safety_average_is_that_of_the_papers_tables(columns, printed):
    names = AVERAGES["thinksafe_safety_average"].columns
    found = averages([measured(name, rate / 100) for name, rate in zip(names, columns)])
    assert set(found) == {"thinksafe_safety_average"} and not found["thinksafe_safety_average"]["differs"]
    assert 100 * found["thinksafe_safety_average"]["value"] == pytest.approx(printed, abs=0.006)


def test_averages_need_all_their_columns_and_say_what_differs_from_the_paper():
    results = [measured(name, 1.0) for name in ("thinksafe_harmbench", "strongreject", "wildjailbreak")]
    assert averages(results) == {}
    assert averages([*results, {**measured("xstest", 0.0), "rate": None}]) == {}
    results[0] |= {"judge": "Qwen3Guard-Gen-4B model:1", "part": "answer"}
    results[1] |= {"judged_prompts": 100, "samples": 4}
    found = averages([*results, measured("xstest", 0.0)])["thinksafe_safety_average"]
    assert found["value"] == 0.75 and found["interval"][0] < 0.75 < found["interval"][1]
    assert found["differs"] == {
        "thinksafe_harmbench": ["judge Qwen3Guard-Gen-4B, not Llama-Guard-3-8B", "part answer, not all"],
        "strongreject": ["100 of 313 prompts", "4 samples, not 1"],
    }


def test_two_sets_of_a_column_are_refused():
    names = dict.fromkeys(AVERAGES["thinksafe_safety_average"].columns)
    sets = {name: name for name in names}
    averages_.check({**sets, "other": "harmbench", "again": "harmbench"})
    averages_.check({"xstest": "xstest", "more": "xstest"})
    with pytest.raises(UserError, match="xstest and more are all of benchmark xstest"):
        averages_.check({**sets, "more": "xstest"})
