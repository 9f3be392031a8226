"""IFPO: the formula, its place in the chain, and what the analysis says of each option."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrm_align import advantages
from lrm_align.advantages import Group, chain, clip, group_center, group_scale, inverse_frequency
from lrm_align.errors import UserError

NAMES = ("direct", "consult", "other")


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def group(reward, mode, **more):
    return Group(np.asarray(reward, float), mode_GxN=np.asarray(mode), mode_names=NAMES, **more)


def weights_of(transform, of: Group):
    """The weight of each sample: what an advantage of 1 becomes."""
    return np.asarray(transform(np.ones_like(of.reward_GxN), of))


LITERAL = jax.jit(inverse_frequency())


@hypothesis.settings(max_examples=40)
@hypothesis.given(hnp.arrays(np.int32, (3, 6), elements=st.integers(-1, 2)), hnp.arrays(bool, (3, 6)))
def test_the_literal_formula(mode, valid):
    """w = N / (M · n_m) over the scored samples that have a mode; they sum to N; one that is alone is finite."""
    of = group(np.zeros((3, 6)), mode, valid_GxN=valid)
    found = weights_of(LITERAL, of)
    for g in range(3):
        counted = valid[g] & (mode[g] >= 0)
        present = set(mode[g, counted])
        for i in range(6):
            same = (mode[g, counted] == mode[g, i]).sum()
            wanted = counted.sum() / (len(present) * same) if counted[i] else float(valid[g, i])
            np.testing.assert_allclose(found[g, i], wanted, rtol=1e-12)
        np.testing.assert_allclose(found[g, counted].sum(), counted.sum(), rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_exponents(exponent):
    mode = np.array([[1, 0, 0, 0, 0, 0, 2, 2]])
    found = weights_of(inverse_frequency(exponent=exponent), group(np.zeros((1, 8)), mode))
    raw = np.array([8, *[8 / 5] * 5, 4, 4]) ** exponent
    np.testing.assert_allclose(found[0], raw / raw.mean(), rtol=1e-12)


@pytest.mark.parametrize("mode", [[[1] * 6], [[0, 0, 0, 1, 1, 1]], [[-1] * 6]])
def test_one_mode_or_equal_shares_are_grpo(mode):
    of = group([[1.0, 0.0, 3.0, 2.0, 0.0, 1.0]], mode)
    np.testing.assert_array_equal(advantages.ifpo()(of.reward_GxN, of), advantages.grpo()(of.reward_GxN, of))


def test_a_named_mode_stands_against_all_others():
    mode = np.array([[1, 0, 0, 2, 2, -1]])
    found = weights_of(inverse_frequency("consult"), group(np.zeros((1, 6)), mode))
    np.testing.assert_allclose(found, [[5 / 2, *[5 / 8] * 4, 1]], rtol=1e-12)


def test_the_weight_comes_after_the_scale():
    """On the finished advantage it weighs; before the scaling, the standard deviation takes part of it back."""
    of = group([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]], [[1, 0, 0, 0, 0, 0, 0, 0]])
    weigh = inverse_frequency("consult")
    finished = advantages.grpo()(of.reward_GxN, of)
    design = chain(group_center(), group_scale(), weigh, clip(5.0))(of.reward_GxN, of)
    other = chain(group_center(), weigh, group_scale())(of.reward_GxN, of)
    weight = np.array([[4.0, *[8 / 14] * 7]])
    np.testing.assert_allclose(design, np.clip(weight * finished, -5, 5), rtol=1e-12)
    np.testing.assert_allclose(advantages.ifpo("consult", limit=5.0)(of.reward_GxN, of), design, rtol=1e-12)
    assert abs(float(other[0, 0] / design[0, 0]) - 1) > 0.2


def test_a_lone_success_explodes_unless_it_is_bounded():
    """G = 8, one success in the rare mode: 2.65 · 4 against -0.38 · 4/7, and the group no longer sums to zero."""
    of = group([[1.0] + [0.0] * 7], [[1] + [0] * 7])
    start = (group_center(), group_scale(eps=0.0, ddof=0))
    bare, bounded, recentred, clipped = (
        np.asarray(chain(*start, *more)(of.reward_GxN, of))[0]
        for more in (
            (inverse_frequency(),),
            (inverse_frequency(bounds=(0.75, 2.0)),),
            (inverse_frequency(), group_center()),
            (inverse_frequency(), clip(5.0)),
        )
    )
    np.testing.assert_allclose(bare[[0, 1]], [10.583, -0.21598], rtol=1e-4)
    assert abs(bare.sum()) > 9
    np.testing.assert_allclose(bounded[[0, 1]], [2 * 2.6458, -0.75 * 0.37796], rtol=1e-4)
    np.testing.assert_allclose(recentred.sum(), 0, atol=1e-12)
    np.testing.assert_allclose(clipped[[0, 1]], [5, bare[1]], rtol=1e-12)


def push(transform, share, gap, N=16):
    """The gradient of the mode's logit, per sample: consulting earns `gap`, N · share of the samples did it."""
    consulted = np.arange(N) < round(share * N)
    of = group(np.where(consulted, gap, 0.0)[None], consulted[None].astype(int))
    slope = np.where(consulted, 1 - share, -share)  # of log p(mode) with p logistic
    return float((np.asarray(transform(of.reward_GxN, of))[0] * slope).mean())


@pytest.mark.parametrize("share", [1 / 16, 1 / 4, 1 / 2, 7 / 8])
@pytest.mark.parametrize("gap", [1.0, -0.5])
def test_the_push_on_the_choice_of_mode(share, gap):
    """Plain: p(1-p)·D. Weighted: D/2·(p²+(1-p)²), of D's own sign. Balanced baseline: D/4 for every p. Within: none."""
    plain, weigh = group_center(), inverse_frequency()
    np.testing.assert_allclose(push(plain, share, gap), share * (1 - share) * gap)
    np.testing.assert_allclose(push(chain(plain, weigh), share, gap), gap / 2 * (share**2 + (1 - share) ** 2))
    balanced = chain(advantages.mode_balanced_center(), weigh)
    np.testing.assert_allclose(push(balanced, share, gap), gap / 4)
    assert push(advantages.mode_standardize(), share, gap) == 0
    faster = abs(push(chain(plain, weigh), share, gap)) / abs(push(plain, share, gap))
    assert faster >= 1 - 1e-12


def test_positive_only_spares_what_is_rare_and_worse():
    of = group([[0.0, 1.0, 1.0, 1.0]], [[1, 0, 0, 0]])
    plain = np.asarray(group_center()(of.reward_GxN, of))
    all_signs = np.asarray(inverse_frequency()(plain, of))
    positive = np.asarray(inverse_frequency(positive_only=True)(plain, of))
    assert all_signs[0, 0] == 2 * plain[0, 0] < 0
    assert positive[0, 0] == plain[0, 0]
    np.testing.assert_allclose(positive[0, 1:], plain[0, 1:] * 2 / 3, rtol=1e-12)


def test_positive_only_favours_what_is_rare_where_both_earn_the_same():
    """Both modes succeed half of the time: with all signs nothing is pushed, with positive ones the rare mode is."""
    consulted = np.arange(16) < 4
    of = group((np.arange(16) % 2)[None], consulted[None].astype(int))
    slope = np.where(consulted, 0.75, -0.25)
    plain = group_center()(of.reward_GxN, of)
    all_signs = (np.asarray(inverse_frequency()(plain, of))[0] * slope).mean()
    positive = (np.asarray(inverse_frequency(positive_only=True)(plain, of))[0] * slope).mean()
    np.testing.assert_allclose(all_signs, 0, atol=1e-12)
    assert positive > 0.05


def test_frequencies_of_the_batch_and_of_a_class():
    """A group of one mode only is weighed by what the others did; a group without a class stands alone."""
    mode = np.array([[1, 1], [0, 0], [1, 0], [0, 1], [0, 0]])
    of = group(np.zeros((5, 2)), mode, class_G=np.array([0, 0, 0, 1, -1]), class_names=("harmful", "benign"))
    direct, consult = 10 / (2 * 6), 10 / (2 * 4)
    np.testing.assert_allclose(
        weights_of(inverse_frequency(scope="batch"), of), np.where(mode == 1, consult, direct), rtol=1e-12
    )
    by_class = weights_of(inverse_frequency(scope="class"), of)
    np.testing.assert_allclose(by_class, np.ones((5, 2)), rtol=1e-12)
    shifted = of.replace(class_G=np.array([0, 1, 0, 1, -1]))
    by_class = weights_of(inverse_frequency(scope="class"), shifted)
    np.testing.assert_allclose(by_class, [[2 / 3] * 2, [2 / 3] * 2, [2 / 3, 2], [2 / 3, 2], [1, 1]], rtol=1e-12)
    np.testing.assert_allclose(weights_of(inverse_frequency(), of), np.ones((5, 2)))


def test_within_a_mode_the_better_mode_is_unknown():
    of = group([[9.0, 7.0, 1.0, 0.0, 5.0, 5.0]], [[1, 1, 0, 0, 2, -1]])
    found = np.asarray(advantages.mode_standardize(eps=0.0)(of.reward_GxN, of))[0]
    np.testing.assert_allclose(found, [0.5**0.5, -(0.5**0.5), 0.5**0.5, -(0.5**0.5), 0, 0], rtol=1e-12)
    same = advantages.ifpo(baseline="within")(of.reward_GxN, of)
    np.testing.assert_allclose(same[0, :2].sum(), 0, atol=1e-6)


def test_balanced_baseline_without_modes_or_scores_is_zero():
    of = group([[9.0, 7.0], [3.0, 1.0]], [[-1, -1], [1, 0]], valid_GxN=np.array([[1, 1], [1, 0]]))
    np.testing.assert_array_equal(advantages.mode_balanced_center()(of.reward_GxN, of), np.zeros((2, 2)))


OF = group(np.zeros((1, 4)), np.zeros((1, 4), int))
MISTAKES = {
    "no modes": (lambda: inverse_frequency()(np.zeros((1, 4)), Group(np.zeros((1, 4)))), "needs group.mode_GxN"),
    "an unknown mode": (
        lambda: inverse_frequency("consul")(OF.reward_GxN, OF),
        "'consul' .*found direct, consult, other",
    ),
    "no names": (lambda: inverse_frequency()(OF.reward_GxN, OF.replace(mode_names=())), "found none"),
    "no classes": (lambda: inverse_frequency(scope="class")(OF.reward_GxN, OF), "needs group.class_G"),
    "an unknown scope": (lambda: inverse_frequency(scope="rows"), "'rows'; supported are group, batch, class"),
    "a negative exponent": (lambda: inverse_frequency(exponent=-1.0), "exponent is -1.0"),
    "bounds the wrong way": (lambda: inverse_frequency(bounds=(4.0, 0.25)), r"bounds are \(4.0, 0.25\)"),
    "an unknown baseline": (lambda: advantages.ifpo(baseline="mean"), "supported are group, balanced, within"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    act, says = MISTAKES[mistake]
    with pytest.raises(UserError, match=says):
        act()
