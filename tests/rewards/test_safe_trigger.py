"""The reward of Safe Trigger ranks the four classes as the paper says."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.rewards import check_reward, safe_trigger
from lrm_align.rewards.safe_trigger import INDICATORS
from lrm_align.scoring import Score

BITS = (0.0, 1.0)
# Ascending steps make weights in the right order.
WEIGHTS = st.tuples(*[st.floats(0.01, 10)] * 3).map(lambda steps: tuple(itertools.accumulate(steps))[::-1])


def value(reward, *bits):
    return reward(dict(zip(INDICATORS, map(Score, bits), strict=True))).value


@given(weights=WEIGHTS)
def test_classes_are_ranked(weights):
    reward = safe_trigger(*weights)
    a, b, c, d = (
        [value(reward, f, s, t, q) for t, q in itertools.product(BITS, BITS)]
        for f, s in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    )
    assert min(a) > max(b) and min(b) > max(c) and min(c) > max(d) and set(d) == {0.0}
    assert sorted(set(a)) == pytest.approx([weights[0], weights[0] + 1, weights[0] + 2])
    assert len(set(b)) == len(set(c)) == 1, "quality counts within A alone"


def test_the_default_levels():
    assert {value(safe_trigger(), *bits) for bits in itertools.product(BITS, repeat=4)} == {
        0.0,
        1.0,
        2.0,
        3.0,
        4.0,
        5.0,
    }


@pytest.mark.parametrize("unknown", INDICATORS)
@pytest.mark.parametrize("f, s", itertools.product(BITS, BITS))
def test_an_unscored_indicator_that_matters_leaves_the_sample_unscored(unknown, f, s):
    scores = dict(zip(INDICATORS, map(Score, (f, s, 1.0, 1.0)), strict=True))
    scores[unknown] = Score.unscored("why")
    given = safe_trigger()(scores)
    matters = unknown in ("f_safe", "s_exist") or f * s == 1.0
    assert (given.value is None) == matters
    assert given.reason == (f"{unknown}: why" if matters else None)


@pytest.mark.parametrize(
    "weights",
    [(3.0, 3.0, 1.0), (3.0, 2.0, 2.5), (3.0, 2.0, 0.0), (3.0, 2.0, -1.0), (float("nan"), 2, 1), (float("inf"), 2, 1)],
)
def test_weights_in_the_wrong_order(weights):
    with pytest.raises(UserError, match="w_a > w_b > w_c > 0"):
        safe_trigger(*weights)


def test_it_passes_the_trial_of_rewards():
    check_reward("lrm_align.rewards:safe_trigger", safe_trigger(), dict.fromkeys(INDICATORS, ()))
