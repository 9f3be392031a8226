"""Advantages by their equations and by the trainers' own numbers; what says nothing gives 0 and is counted."""

import math

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrm_align import advantages
from lrm_align.advantages import Group
from lrm_align.errors import UserError

# The worked example of TRL's own code: four samples of two prompts, the second without spread.
REWARD = np.array([[2.0, 0.0, 1.0, -2.0], [1.0, 1.0, 1.0, 1.0]])
PARTS = np.stack([np.array([[1.0, -1.0, 0.0, -1.0], [0.0] * 4]), np.array([[1.0, 1.0, 1.0, -1.0], [1.0] * 4])], axis=-1)
GOLDEN = {
    "group": (advantages.grpo(), [1.024635, -0.146376, 0.439129, -1.317388]),
    "batch": (advantages.grpo("batch"), [1.473269, -0.210467, 0.631401, -1.894203]),
    "none": (advantages.grpo("none"), [1.75, -0.25, 0.75, -2.25]),
    "dr_grpo": (advantages.dr_grpo(), [1.75, -0.25, 0.75, -2.25]),
    "rloo": (advantages.rloo(), [7 / 3, -1 / 3, 1.0, -3.0]),
    "gdpo": (advantages.gdpo(), [1.580563, -0.248035, 0.666264, -1.998792]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name):
    transform, first = GOLDEN[name]
    with jax.enable_x64(True):
        found = jax.jit(transform)(REWARD, Group(REWARD, parts_GxNxK=PARTS))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [first, [0.0] * 4], rtol=1e-6, atol=5e-7)  # six decimals are known


def grpo_by_hand(reward, scored, batch=False):
    out = np.zeros_like(reward)
    spread = reward[scored].std(ddof=1) if scored.sum() > 1 else 0
    for g in range(len(reward)):
        some = scored[g]
        if some.sum() > 1 and np.ptp(reward[g, some]) > 0:
            sigma = spread if batch else reward[g, some].std(ddof=1)
            out[g, some] = (reward[g, some] - reward[g, some].mean()) / (sigma + 1e-4)
    return out


def rloo_by_hand(reward, scored, batch=False):
    out = np.zeros_like(reward)
    for g in range(len(reward)):
        for n in np.flatnonzero(scored[g]):
            others = [reward[g, k] for k in np.flatnonzero(scored[g]) if k != n]
            out[g, n] = reward[g, n] - np.mean(others) if others else 0
    return out


BY_HAND = {
    "group": (jax.jit(advantages.grpo()), grpo_by_hand, {}),
    "batch": (jax.jit(advantages.grpo("batch")), grpo_by_hand, {"batch": True}),
    "rloo": (jax.jit(advantages.rloo()), rloo_by_hand, {}),
}
levels = st.sampled_from([-2.0, -1.0, -0.1, 0.0, 0.3, 1.0, 2.0, math.nan, math.inf])


@pytest.mark.parametrize("name", BY_HAND)
@hypothesis.settings(max_examples=40)
@hypothesis.given(hnp.arrays(float, (3, 5), elements=levels), hnp.arrays(bool, (3, 5)))
def test_only_scored_samples_count(name, reward, valid):
    """Unscored and non-finite rewards change nothing but their own advantage, which is 0."""
    transform, by_hand, options = BY_HAND[name]
    scored = valid & np.isfinite(reward)
    with jax.enable_x64(True):
        found = np.asarray(transform(reward, Group(reward, valid)))
    np.testing.assert_allclose(found, by_hand(reward, scored, **options), rtol=1e-9, atol=1e-9)
    assert (found[~scored] == 0).all()


@hypothesis.settings(max_examples=20)
@hypothesis.given(st.floats(-1e3, 1e3, width=32), st.integers(0, 4))
def test_equal_rewards_are_exactly_zero(reward, unscored):
    """No rounding of a mean is blown up by a small deviation."""
    rewards = np.full((2, 5), reward, np.float32)
    valid = np.arange(5) >= unscored
    group = Group(rewards, np.broadcast_to(valid, (2, 5)))
    for transform, _, _ in BY_HAND.values():
        assert (np.asarray(transform(rewards, group)) == 0).all()
    assert not advantages.keep(group).any()


def test_a_missing_part_is_outside_of_its_own_statistics():
    parts = PARTS.copy()
    parts[0, 1, 0] = np.nan
    group = Group(REWARD, parts_GxNxK=parts)
    with jax.enable_x64(True):
        found = advantages.standardized_parts((1.0, 0.0))(REWARD, group)
    there = np.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(found[0, [0, 2, 3]], there / (1 + 1e-4), rtol=1e-9)
    assert found[0, 1] == 0 and (found[1] == 0).all()


def test_batch_scale_measures_what_stands_before_it():
    """REINFORCE++ whitens what is centred; TRL divides by the deviation of the rewards."""
    with jax.enable_x64(True):
        centred = REWARD - REWARD.mean(1, keepdims=True)
        found = advantages.chain(advantages.group_center(), advantages.batch_scale(eps=0.0))(REWARD, Group(REWARD))
    np.testing.assert_allclose(found, centred / centred.std(ddof=1), rtol=1e-12)


def test_kl_and_length_change_the_reward_before_its_statistics():
    kl = np.array([[0.5, 1.0, -0.5, 0.0], [0.0, 0.0, 4.0, np.inf]])
    length = np.array([[10, 95, 100, 300], [0, 80, 81, 90]])
    group = Group(REWARD, kl_GxN=kl, length_GxN=length)
    credit = advantages.chain(
        advantages.kl_in_reward(0.1), advantages.soft_overlong(100, 20, 0.5), advantages.group_center()
    )
    punished = 0.5 * np.array([[0, -0.75, -1, -1], [0, 0, -0.05, -0.5]])
    reward = REWARD - 0.1 * np.where(np.isfinite(kl), kl, 0) + punished
    with jax.enable_x64(True):
        found = credit(REWARD, group)
    np.testing.assert_allclose(found[0], reward[0] - reward[0].mean(), rtol=1e-12)
    np.testing.assert_allclose(found[1, :3], reward[1, :3] - reward[1, :3].mean(), rtol=1e-9, atol=1e-12)
    assert found[1, 3] == 0, "a sample without a finite KL is unscored"


def test_clip_is_symmetric():
    found = advantages.clip(1.5)(REWARD, Group(REWARD))
    np.testing.assert_array_equal(found, np.clip(REWARD, -1.5, 1.5))


def test_integers_and_half_precision_are_computed_in_float32():
    for dtype in (np.int32, np.float16):
        found = advantages.grpo()(REWARD.astype(dtype), Group(REWARD.astype(dtype)))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[0], GOLDEN["group"][1], rtol=1e-5)


def test_what_says_nothing_is_counted():
    reward = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 1.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    valid = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0]])
    mode = np.array([[0, 1, 1], [0, 0, -1], [0, 1, 1], [1, 1, 1]])
    group = Group(reward, valid, mode_GxN=mode, mode_names=("direct", "consult", "never"))
    found = {name: tuple(map(float, pair)) for name, pair in jax.jit(advantages.metrics)(group).items()}
    assert found == {
        "groups/without_spread": (3, 4),
        "groups/unscored": (1, 4),
        "groups/single": (1, 4),
        "samples/unscored": (6, 12),
        "samples/not_finite": (1, 12),
        "reward/mean": (9, 6),
        "mode/direct": (4, 6),
        "mode/consult": (1, 6),
        "mode/never": (0, 6),
    }
    np.testing.assert_array_equal(advantages.keep(group), [True, False, False, False])
    np.testing.assert_array_equal(advantages.keep(Group(REWARD), above=4.0), [False, False])
    assert np.isfinite(advantages.ifpo()(reward, group)).all()


def test_broadcast_reaches_the_tokens_of_its_sample():
    segments = np.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 2, 0]])
    sample = np.array([[5, 0, -1], [2, -1, -1]])
    advantage = np.arange(6.0).reshape(2, 3) + 1
    found = advantages.broadcast(advantage, sample, segments)
    np.testing.assert_array_equal(found, [[6, 6, 1, 1, 1, 0], [3, 3, 3, 3, 0, 0]])
    decision = np.array([[0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 1, 0]])
    both = advantages.broadcast(advantage, sample, segments, decision=(10 * advantage, decision))
    np.testing.assert_array_equal(both, [[6, 60, 1, 10, 1, 0], [3, 3, 3, 3, 0, 0]])


ONE = Group(np.zeros((3, 1)))
MISTAKES = {
    "groups of one": (lambda: advantages.grpo()(ONE.reward_GxN, ONE), r"group_center: a group of 1 .*\(3, 1\).*N ≥ 2"),
    "leave one out of one": (lambda: advantages.rloo()(ONE.reward_GxN, ONE), "leave_one_out: a group of 1"),
    "flat rewards": (lambda: advantages.clip(1.0)(np.zeros(3), Group(np.zeros(3))), r"\(3,\); wanted \(groups, sam"),
    "another valid": (
        lambda: advantages.dr_grpo()(REWARD, Group(REWARD, valid_GxN=np.ones(4))),
        r"group_center: group.valid_GxN has the shape \(4,\); wanted \(2, 4\)",
    ),
    "another advantage": (lambda: advantages.clip(1.0)(REWARD[0], Group(REWARD)), r"clip: the advantage .*\(4,\)"),
    "no parts": (lambda: advantages.gdpo()(REWARD, Group(REWARD)), "standardized_parts: needs group.parts_GxNxK"),
    "other weights": (
        lambda: advantages.gdpo((1.0,))(REWARD, Group(REWARD, parts_GxNxK=PARTS)),
        "1 weights were given; wanted 2",
    ),
    "no kl": (lambda: advantages.kl_in_reward(0.1)(REWARD, Group(REWARD)), "kl_in_reward: needs group.kl_GxN"),
    "beta of zero": (lambda: advantages.kl_in_reward(0.0), "beta is 0.0; it must be above 0"),
    "a limit of zero": (lambda: advantages.clip(0.0), "the limit is 0.0"),
    "no buffer": (lambda: advantages.soft_overlong(10, 20), "buffer is 20 of max_length 10"),
    "a negative eps": (lambda: advantages.group_scale(-1.0), "eps is -1.0"),
    "an unknown scale": (lambda: advantages.grpo("grup"), "'grup'; supported are group, batch, none"),
    "an empty chain": (lambda: advantages.chain(), "there are no transforms"),
    "no function": (lambda: advantages.chain(3.0), "transform 1 is 3.0"),
    "a wrong shape in a chain": (
        lambda: advantages.chain(advantages.group_center(), flattened)(REWARD, Group(REWARD)),
        r"transform 2 \(.*test_advantages:flattened\) gave the shape \(8,\); wanted floating point .*\(2, 4\)",
    ),
    "integers in a chain": (
        lambda: advantages.chain(lambda a, group: group.mode_GxN)(
            REWARD, Group(REWARD, mode_GxN=np.zeros((2, 4), int))
        ),
        "gave int",
    ),
    "segments of other rows": (
        lambda: advantages.broadcast(REWARD, np.zeros((2, 3), int), np.zeros((3, 8), int)),
        r"sample_BxS has the shape \(2, 3\) and segment_ids_BxT \(3, 8\)",
    ),
    "a decision of other rows": (
        lambda: advantages.broadcast(
            REWARD, np.zeros((2, 3), int), np.zeros((2, 8), int), decision=(REWARD, np.zeros((2, 7)))
        ),
        r"mask_BxT has the shape \(2, 7\); wanted \(2, 8\)",
    ),
    "rewards that are not finite": (
        lambda: advantages.check(Group(np.where(REWARD == -2, np.nan, REWARD))),
        r"reward_GxN\[0, 3\] is nan, and 1 of 8",
    ),
    "a mode without a name": (
        lambda: advantages.check(Group(REWARD, mode_GxN=np.full((2, 4), 2), mode_names=("direct", "consult"))),
        r"mode_GxN is in \[2, 2\]; .*\(direct, consult\)",
    ),
}


def flattened(advantage_GxN, group):
    return advantage_GxN.reshape(-1)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    act, says = MISTAKES[mistake]
    with pytest.raises(UserError, match=says):
        act()


def test_check_passes_what_is_marked_as_unscored():
    advantages.check(Group(np.where(REWARD == -2, np.nan, REWARD), valid_GxN=REWARD != -2))
