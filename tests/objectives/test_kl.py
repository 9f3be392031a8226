"""Estimators of the divergence: their means, and the expected gradients that their docstrings promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import kl_estimate, kl_to_reference

LOGITS = np.array([0.3, -1.0, 0.7, 0.1, -0.4])
REFERENCE = jax.nn.log_softmax(np.float32([-0.2, 0.5, 0.4, -0.9, 0.3]))
NAMES = ("k1", "k2", "k3", "k1+", "k3+", "k3_unbiased")


def reverse(logits):
    logp = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(logp) * (logp - REFERENCE))


def forward(logits):
    return jnp.sum(jnp.exp(REFERENCE) * (REFERENCE - jax.nn.log_softmax(logits)))


def expected_loss(name, logits):
    """The mean over all tokens that the policy may sample; the sampling itself has no gradient."""
    logp = jax.nn.log_softmax(logits)
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(logp)) * kl_estimate(name, logp, REFERENCE))


@pytest.mark.parametrize("name", NAMES)
def test_expected_gradients(name):
    wanted = {"k1": lambda logits: 0.0 * logits.sum(), "k3": forward}.get(name, reverse)
    with jax.enable_x64(True):
        found = jax.grad(lambda logits: expected_loss(name, logits))(LOGITS)
        np.testing.assert_allclose(found, jax.grad(wanted)(LOGITS), atol=1e-8)
        if name != "k2":
            np.testing.assert_allclose(expected_loss(name, LOGITS), reverse(LOGITS), rtol=1e-6)


def test_k1_in_the_reward_is_unbiased():
    """REINFORCE with -k1 as the reward descends on the reverse divergence."""
    with jax.enable_x64(True):

        def surrogate(logits):
            logp = jax.nn.log_softmax(logits)
            reward = -jax.lax.stop_gradient(kl_estimate("k1", logp, REFERENCE))
            return -jnp.sum(jax.lax.stop_gradient(jnp.exp(logp)) * reward * logp)

        np.testing.assert_allclose(jax.grad(surrogate)(LOGITS), jax.grad(reverse)(LOGITS), atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gap", [1e4, -1e4, 0.0])
def test_extremes_are_finite(name, gap):
    value, slope = jax.value_and_grad(lambda logp: kl_estimate(name, logp, jnp.float32(gap)))(jnp.float32(0))
    assert np.isfinite(value) and np.isfinite(slope)
    if gap == 0:
        assert value == 0


def test_small_gaps_keep_their_digits():
    gap = np.float32(1e-3)
    np.testing.assert_allclose(kl_estimate("k3", np.float32(0), gap), np.expm1(np.float64(gap)) - gap, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:k1 as a loss")
@pytest.mark.parametrize("name", NAMES)
def test_as_an_objective_it_is_the_token_mean(name):
    rng = np.random.default_rng(0)
    mask, ones = np.float32([[0, 1, 1, 0]]), np.ones((1, 4), np.int32)
    logp, ref, old = (rng.normal(-2, 0.5, (1, 4)).astype(np.float32) for _ in range(3))
    logp[0, 3] = ref[0, 3] = -np.inf
    batch = Batch(ones, ones, ones, mask, old_logp_BxT=old)
    objective = kl_to_reference(name)
    assert objective.needs == {"logp", "reference.logp"}

    def loss(logp):
        return objective.loss({"logp": logp, "reference.logp": ref}, batch, objective.normalizers(batch))

    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(logp)
    wanted = kl_estimate(name, logp[:, 1:3], ref[:, 1:3], old[:, 1:3])
    np.testing.assert_allclose(value, wanted.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["kl/reference"], (wanted.sum(), 2), rtol=1e-6)
    assert (gradient[:, [0, 3]] == 0).all() and np.isfinite(gradient).all()


def test_mistakes():
    with pytest.warns(UserWarning, match="zero expected gradient"):
        objectives.kl_to_reference("k1")
    with pytest.raises(UserError, match="direction is 'k5'; supported are forward, reverse, k1, k2, k3"):
        kl_to_reference("k5")
    with pytest.raises(UserError, match="kl_estimate: name is 'mse'; supported are k1"):
        kl_estimate("mse", np.zeros(1), np.zeros(1))
