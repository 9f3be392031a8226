"""Weighted sums of scores: unscored stays unscored, and mistakes are named."""

import math

import numpy as np
import pytest

from lrm_align.advantages import Group, check, grpo
from lrm_align.errors import UserError
from lrm_align.rewards import Reward, arrays, check_reward, weighted_sum
from lrm_align.scoring import Score

SAFE = weighted_sum({"guard": -1.0, "format.closed": 0.5})


def scores(p_unsafe, closed=1.0):
    guard = Score.unscored("no verdict", {"closed": 1.0}) if p_unsafe is None else Score(p_unsafe)
    return {"guard": guard, "format": Score(closed, {} if closed is None else {"closed": closed})}


def test_the_sum_and_its_parts():
    assert SAFE(scores(0.25)) == Reward(0.25, {"guard": 0.25, "format.closed": 1.0})


def test_an_unscored_score_is_no_reward():
    assert SAFE(scores(None)) == Reward(None, {}, "guard: no verdict")
    reward = weighted_sum({"guard.closed": 1.0})(scores(None))
    assert reward.value is None, "a part of an unscored score counts no more than the score"
    assert weighted_sum({"guard.missing": 1.0})(scores(0.5)).reason == "guard.missing: no such part"


def test_rewards_feed_advantages():
    found = arrays([[SAFE(scores(p)) for p in row] for row in ((0.0, 1.0, None), (0.5, 0.5, 0.5))], parts=("guard",))
    group = Group(**found._asdict())
    check(group)
    advantage = np.asarray(grpo()(group.reward_GxN, group))
    np.testing.assert_allclose(advantage, [[0.707, -0.707, 0], [0, 0, 0]], atol=1e-3)
    assert math.isnan(group.parts_GxNxK[0, 2, 0])


MISTAKES = {
    "no weights": (lambda: weighted_sum({}), "no scores to sum"),
    "an infinite weight": (lambda: weighted_sum({"guard": math.inf}), "weight of 'guard' is inf"),
    "an unknown judge": (lambda: weighted_sum({"gaurd": 1.0})(scores(0.5)), "no score 'gaurd'.*guard, format"),
    "groups of two sizes": (lambda: arrays([[Reward(1.0)], [Reward(1.0)] * 2]), r"groups have \[1, 2\] samples"),
    "no groups": (lambda: arrays([]), r"groups have \[\] samples"),
    "a reward that is not finite": (
        lambda: arrays([[Reward(1.0), Reward(math.nan, {"guard": 1.0})]]),
        "sample 1 of group 0 earns nan",
    ),
    "no function": (lambda: check_reward("mine:reward", 3.0, {}), "mine:reward returned a float"),
    "a plain number": (lambda: check_reward("mine:reward", lambda s: 1.0, {}), "mine:reward: its reward is a float"),
    "an unscored sample": (
        lambda: check_reward("mine:reward", lambda s: Reward(1 - s["guard"].value), {"guard": ()}),
        "mine:reward fails.*unscored samples, too",
    ),
    "a value of another type": (
        lambda: check_reward("mine:reward", lambda s: Reward("good"), {}),
        "its reward's value is a str",
    ),
    "a part that it does not give": (
        lambda: check_reward("mine:reward", SAFE, {"guard": (), "format": ("closed",)}, ("gaurd",)),
        "config.reward.parts names 'gaurd', which mine:reward does not give; its parts: guard",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    act, says = MISTAKES[mistake]
    with pytest.raises(UserError, match=says):
        act()


def test_good_rewards_pass():
    check_reward("mine:reward", SAFE, {"guard": (), "format": ("closed",)}, ("guard",))
