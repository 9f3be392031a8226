"""Groups give their best against their worst, unscored samples count nowhere; unfit rewards are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.recipes import ranking
from lrm_align.recipes.ranking import choose
from lrm_align.rewards import Reward
from lrm_align.scoring import Score

SCORES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
SETTINGS = {"factory": "lrm_align.rewards:safe_trigger", "args": {}, "delta": 1.0}


def constant():
    """A reward that tells nothing apart."""
    return lambda scores: Reward(1.0)


def misspelt():
    """A reward of an indicator that does not exist."""
    return lambda scores: Reward(scores["f_saef"].value)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"args": {"w_b": 3.0}}, "w_a > w_b > w_c > 0"),
        ({"args": {"w_d": 0.0}}, "w_d"),
        ({"delta": 0.0}, "above 0"),
        ({"delta": 5.1}, "at most 5"),
        ({"factory": f"{__name__}:constant"}, "at most 0"),
        ({"factory": f"{__name__}:misspelt"}, "f_saef"),
    ],
)
def test_rewards_that_cannot_work(change, says):
    with pytest.raises(UserError, match=says):
        ranking.make({**SETTINGS, **change})


def test_the_default_is_taken():
    reward, delta = ranking.make(SETTINGS)
    assert delta == 1.0 and reward({"f_safe": Score(0.0), "s_exist": Score(1.0)}).value == 1.0


@given(
    groups=st.lists(st.lists(SCORES, min_size=1, max_size=5), min_size=1, max_size=5),
    delta=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
)
def test_pairs(groups, delta):
    scores = {
        (f"q{g}", n): Score.unscored("?") if value is None else Score(value)
        for g, values in enumerate(groups)
        for n, value in enumerate(values)
    }
    pairs, dropped = choose(scores, delta)
    assert len(pairs) + sum(dropped.values()) == len(groups)
    assert len({a[0] for a, _ in pairs}) == len(pairs), "one pair a query"
    for best, worst in pairs:
        known = [s.value for key, s in scores.items() if key[0] == best[0] and s.value is not None]
        assert scores[best].value == max(known) and scores[worst].value == min(known)
        assert scores[best].value - scores[worst].value >= delta
    shuffled = dict(sorted(scores.items(), reverse=True))
    assert choose(shuffled, delta) == (pairs, dropped), "the order does not matter"


def test_ties_take_the_lowest_number_and_the_bound_is_reached():
    scores = {("q", n): Score(value) for n, value in enumerate([2.0, 3.0, 3.0, 2.0])}
    assert choose(scores, 1.0) == ([(("q", 1), ("q", 0))], {})
    assert choose(scores, 1.01) == ([], {ranking.CLOSE: 1})


def test_unscored_samples_are_left_out_and_counted():
    scores = {("q", 0): Score(0.0, {"f_safe": 0.0, "s_exist": 0.0}), ("q", 1): Score.unscored("the judge says both")}
    assert choose(scores, 0.5) == ([], {ranking.FEW_SCORED: 1})
    assert ranking.classes(list(scores.values())) == {"D": 1, "unscored: the judge says both": 1}
