"""Policy gradients: the equations of the pieces, then mistakes."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import histogram, policy_gradient
from tests.policy_batches import value_and_metrics

ONE = Batch(
    *(np.ones((1, 4), np.int32),) * 3,
    np.float32([[0, 1, 1, 1]]),
    advantage_BxT=np.float32([[0, 1, -1, 1]]),
    old_logp_BxT=np.zeros((1, 4), np.float32),
    sampler_logp_BxT=-np.log(np.float32([[1, 0.25, 1, 3]])),  # ω = 0.25, 1, 3
)
RATIO = np.float32([[1, 1.5, 0.5, 1]])


def metrics_of(objective, batch=ONE):
    scores = {"logp": np.log(RATIO), "entropy": np.float32([[0, 1, 2, 3]])}
    return value_and_metrics(objective, scores, batch)


@pytest.mark.parametrize(
    ("correction", "weights"),
    [
        ("none", (1, 1, 1)),
        (("token_truncate", 0.5, 2.0), (0.5, 1, 2)),
        (("token_mask", 0.5, 2.0), (0, 1, 0)),
        (("sequence_truncate", 0.0, 0.5), (0.5, 0.5, 0.5)),
        (("sequence_mask", 0.0, 0.7), (0, 0, 0)),
        (("sequence_mask", 0.0, 0.8), (0.75, 0.75, 0.75)),
        (("geometric_filter", 0.8, 1.2), (0.25, 1, 3)),
        (("geometric_filter", 0.95, 1.2), (0, 0, 0)),
    ],
)
def test_corrections(correction, weights):
    loss, metrics = metrics_of(policy_gradient(surrogate="plain", correction=correction))
    np.testing.assert_allclose(loss, -np.dot(weights, [1.5, -0.5, 1]) / 3, rtol=1e-6)
    if correction != "none":
        np.testing.assert_allclose(metrics["correction/weight"], (sum(weights), 3), rtol=1e-6)
        np.testing.assert_allclose(metrics["correction/masked"], (sum(w == 0 for w in weights), 3))


def test_a_token_the_sampler_did_not_score_is_not_corrected():
    unscored = ONE.replace(sampler_logp_BxT=np.where(np.arange(4) == 3, np.nan, ONE.sampler_logp_BxT))
    _, metrics = metrics_of(policy_gradient(correction=("token_truncate", 0.0, 9.0)), unscored)
    np.testing.assert_allclose(metrics["correction/weight"], (0.25 + 1 + 1, 3), rtol=1e-6)


def test_masks():
    loss, metrics = metrics_of(policy_gradient(surrogate="plain", masks=[("top_entropy", 0.5)]))
    np.testing.assert_allclose(loss, -(-0.5 + 1) / 3, rtol=1e-6)  # the first of three goes; the total stays
    np.testing.assert_allclose(metrics["mask/kept"], (2, 3))
    drifted = ONE.replace(advantage_BxT=np.float32([[0, -1, -1, -1]]), sampler_logp_BxT=None)
    drift = -np.log(1.5 * 0.5) / 3
    for threshold, kept in ((drift + 1e-3, 3), (drift - 1e-3, 0)):
        _, metrics = metrics_of(policy_gradient(masks=[("off_policy_sequence", threshold)]), drifted)
        assert metrics["mask/kept"][0] == kept
    cut = ONE.replace(truncated_BxS=np.float32([[1, 0]]))
    loss, metrics = metrics_of(objectives.grpo(masks=["truncated"]), cut)
    assert loss == 0 and metrics["nll"][1] == 0


def test_truncated_traces_leave_lengths_and_totals():
    two = jax.tree.map(lambda a: np.concatenate([a, a]), ONE).replace(truncated_BxS=np.float32([[1], [0]]))
    for make in (objectives.grpo, objectives.dapo, functools.partial(objectives.dr_grpo, 5)):
        loss, _ = value_and_metrics(make(masks=["truncated"]), {"logp": np.log(np.concatenate([RATIO, RATIO]))}, two)
        np.testing.assert_allclose(loss, metrics_of(make())[0], rtol=1e-6)


def test_metrics():
    _, metrics = metrics_of(objectives.dapo(0.2, 0.2, watch=["entropy"]))
    np.testing.assert_allclose(metrics["clip/high"], (1, 3))
    np.testing.assert_allclose(metrics["clip/low"], (1, 3))
    np.testing.assert_allclose(metrics["ratio/mean"], (3, 3))
    np.testing.assert_allclose(metrics["entropy"], (6, 3))
    np.testing.assert_allclose(metrics["advantage/mean"], (1, 3))
    np.testing.assert_allclose(metrics["nll"], (-np.log(0.75), 3), rtol=1e-5)
    np.testing.assert_allclose(metrics["kl/old"], (-np.log(0.75), 3), rtol=1e-5)
    counts, total = metrics["ratio/histogram"]
    bins = np.digitize(np.log([1.5, 0.5, 1]), histogram.EDGES)
    np.testing.assert_array_equal(counts, np.bincount(bins, minlength=histogram.BINS))
    assert total == 3 and counts.shape == (histogram.BINS,)


def test_a_piece_can_be_a_function():
    def squared(tokens):
        return jnp.square(tokens.delta_BxT), {"own": tokens.delta_BxT}

    loss, metrics = metrics_of(policy_gradient(surrogate=squared))
    np.testing.assert_allclose(loss, np.square(np.log(RATIO)).sum() / 3, rtol=1e-6)
    assert "own" in metrics
    alone, _ = metrics_of(policy_gradient(surrogate=lambda tokens: squared(tokens)[0]))
    assert alone == loss

    def summed(tokens):
        return tokens.delta_BxT.sum()

    for piece in ({"surrogate": summed}, {"correction": summed}):
        with pytest.raises(UserError, match=r"summed gave an array of shape \(\); .* one value a token, \(1, 4\)"):
            metrics_of(policy_gradient(**piece))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: policy_gradient("word"), "ratio is 'word'; supported are token, sequence, trajectory"),
        (lambda: policy_gradient(surrogate="ppo"), "surrogate is 'ppo'; supported are clip, dual_clip"),
        (
            lambda: policy_gradient(surrogate=("clip", 1, 2, 3)),
            "'clip': too many .* arguments are: low, high",
        ),
        (lambda: policy_gradient(surrogate=0.2), "surrogate is 0.2; a function or one of clip, "),
        (lambda: policy_gradient(correction=None), "correction is None; a function or one of none, "),
        (lambda: policy_gradient(surrogate=(["clip"], 0.2)), r"surrogate is \['clip'\]; supported are clip"),
        (lambda: policy_gradient(aggregate="constant"), "aggregate 'constant': missing .*'length'"),
        (lambda: policy_gradient(correction="is"), "correction is 'is'; supported are none, token_truncate"),
        (lambda: policy_gradient(masks=["all"]), "mask is 'all'; supported are truncated, off_policy_sequence"),
        (lambda: policy_gradient(masks="truncated"), r"a sequence such as \['truncated'\] would be right"),
        (lambda: policy_gradient(kl="k4"), "kl is 'k4'; supported are k1, k2, k3"),
        (lambda: policy_gradient(kl_weight=-1), "kl_weight is -1; a finite number of at least 0 would be right"),
        (lambda: policy_gradient(entropy_weight=float("nan")), "entropy_weight is nan; a finite number"),
        (lambda: policy_gradient(watch=["clip"]), "watch has 'clip'; supported are kl, entropy"),
        (lambda: objectives.grpo(-0.1), "clip: low is -0.1; a finite number of at least 0 of at most 1"),
        (lambda: objectives.grpo(0.2, float("inf")), "clip: high is inf"),
        (lambda: policy_gradient(surrogate=("dual_clip", 0.2, 0.2, 1.1)), "cap is 1.1; a finite number above 1.2"),
        (lambda: objectives.cispo(0), "cap is 0; a finite number above 0"),
        (lambda: objectives.sapo(0.0), "positive is 0.0"),
        (lambda: objectives.dr_grpo(0), "constant: length is 0"),
        (lambda: policy_gradient(correction=("token_mask", 3.0, 2.0)), "token_mask: low is 3.0, above high, 2.0"),
        (lambda: policy_gradient(correction=("token_mask", "a", 2.0)), "token_mask: low is 'a'"),
        (lambda: policy_gradient(masks=[("top_entropy", 1.5)]), "share is 1.5; a finite number above 0 of at most 1"),
        (lambda: policy_gradient(masks=[("off_policy_sequence", -1)]), "threshold is -1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "policy_gradient needs the batch column advantage_BxT; the batch has tokens_BxT, "),
        ({"correction": "token_mask"}, "correction 'token_mask' needs the batch column sampler_logp_BxT"),
        ({"masks": ["truncated"]}, "mask 'truncated' needs the batch column truncated_BxS"),
        ({"masks": [("off_policy_sequence", 0.1)]}, "needs the batch column sampler_logp_BxT or old_logp_BxT"),
    ],
)
def test_missing_columns_are_named(options, message):
    bare = Batch(ONE.tokens_BxT, ONE.segment_ids_BxT, ONE.positions_BxT, ONE.loss_mask_BxT)
    if options:
        bare = bare.replace(advantage_BxT=ONE.advantage_BxT)
    with pytest.raises(UserError, match=message):
        policy_gradient(**options).normalizers(bare)


def test_k1_as_a_loss_warns():
    with pytest.warns(UserWarning, match="zero expected gradient"):
        objectives.grpo(kl="k1", kl_weight=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objectives.grpo(kl="k1", watch=["kl"])
