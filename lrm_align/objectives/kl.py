"""Staying near the reference: divergences over the whole vocabulary, and estimates from the sampled token."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives.objective import Metrics, Normalizers, Objective, Scores, token_mean
from lrm_align.objectives.tokens import LARGEST_LOG, exp

DIRECTIONS = ("forward", "reverse")
Estimator = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (log p, log r, log p_old) -> estimate


def kl_to_reference(direction: str = "forward") -> Objective:
    """Divergence between the policy p and the reference r at every trained token, a mean over the global batch.

    L = Σ_t m_t · KL_t / Σ_t m_t. Over the whole vocabulary, exact, with the gradient of the divergence itself:

    * forward: KL(r‖p) = Σ_v r_v · log(r_v / p_v), the policy covers what the reference does (ThinkSafe + KL, arXiv
      2601.23143, section 5.3);
    * reverse: KL(p‖r) = Σ_v p_v · log(p_v / r_v).

    From the sampled token alone, on text that the policy sampled: the names of `kl_estimate`, which says which gradient
    each has in expectation. "k1" as a loss regularises nothing, and warns so. A batch without `old_logp_BxT` counts as
    on-policy.

    Args:
      direction: "forward", "reverse", or an estimator: "k1", "k2", "k3", "k1+", "k3+", "k3_unbiased".

    Raises:
      UserError: another direction.

    >>> sorted(kl_to_reference("reverse").needs), sorted(kl_to_reference("k2").needs)
    (['kl_reverse'], ['logp', 'reference.logp'])
    """
    if direction in DIRECTIONS:
        score = f"kl_{direction}"
        return token_mean(score, frozenset({score}), lambda scores: scores[score])
    if direction not in ESTIMATORS:
        known = ", ".join((*DIRECTIONS, *ESTIMATORS))
        raise UserError(f"kl_to_reference: direction is {direction!r}; supported are {known}")
    warn_of_k1(direction)
    return _estimated(ESTIMATORS[direction])


def kl_estimate(name: str, logp: jax.Array, ref: jax.Array, old: Any | None = None) -> jax.Array:
    """KL(p‖r) estimated from tokens that p sampled (Schulman, "Approximating KL divergence"), per token.

    With d = log r - log p and sg the stop-gradient. All but k2 have the right mean; what each has as a *loss*, on
    policy and in expectation, is another matter (checked on a softmax; arXiv 2512.21852 has the proofs):

    * k1 = -d: gradient zero, since E[∇ log p] = 0. It belongs into a reward: R - β·k1 is unbiased. That is the
      business of the advantages, which call this function.
    * k2 = d² / 2: the gradient of KL(p‖r).
    * k3 = e^d - d - 1: the gradient of KL(r‖p), the *forward* divergence; low variance and never negative.
    * k3_unbiased = (p / p_old)·k3 with the gradient through the ratio too: that of KL(p‖r) (DeepSeek-V3.2).
    * k1+, k3+: the value of k1, k3 with the gradient of k2.

    d is cut at 20 from above within k3, so that a token which the policy has lost gives a finite loss.

    Named as in verl, whose `k3` also cuts the value at 10; TRL has k3 and, with `use_bias_correction_kl`, k3_unbiased
    with the ratio at the level of the importance ratio, where here it is always the token's; OpenRLHF has k1, k2, k3;
    Tunix calls k1, k2, k3 `kl` (its default, as a loss), `mse_kl`, `low_var_kl`.

    Args:
      name: of the estimator.
      logp: log p of the sampled tokens, any shape.
      ref: log r of them.
      old: log-probabilities of the policy that sampled, for "k3_unbiased"; without, p's own as constants.

    Raises:
      UserError: an unknown name.

    >>> import numpy as np
    >>> [round(float(kl_estimate(name, np.float32(-1.0), np.float32(-1.5))), 4) for name in ("k1", "k2", "k3")]
    [0.5, 0.125, 0.1065]
    """
    if name not in ESTIMATORS:
        raise UserError(f"kl_estimate: name is {name!r}; supported are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name](logp, ref, jax.lax.stop_gradient(logp if old is None else old))


def warn_of_k1(name: str) -> None:
    """Says that k1 as a loss does nothing in expectation."""
    if name == "k1":
        warnings.warn(
            "k1 as a loss has zero expected gradient: it regularises nothing; use k2, k3, k3_unbiased, or k1 in reward",
            stacklevel=3,
        )


@jax.custom_jvp
def above_tangent(x: jax.Array) -> jax.Array:
    """e^x - x - 1, with the derivative e^x - 1 to its own digits near 0, where a policy is near its reference.

    >>> import numpy as np
    >>> f"{float(jax.grad(above_tangent)(np.float32(1e-6))):.4e}"
    '1.0000e-06'
    """
    return jnp.expm1(x) - x


above_tangent.defjvps(lambda tangent, _, x: tangent * jnp.expm1(x))


def _k1(logp, ref, old):
    return logp - ref


def _k2(logp, ref, old):
    return jnp.square(ref - logp) / 2


def _k3(logp, ref, old):
    return above_tangent(jnp.minimum(ref - logp, LARGEST_LOG))


def _k3_unbiased(logp, ref, old):
    return exp(logp - old) * _k3(logp, ref, old)


def _with_gradient_of_k2(value: Estimator) -> Estimator:
    def estimate(logp, ref, old):
        k2 = _k2(logp, ref, old)
        return k2 + jax.lax.stop_gradient(value(logp, ref, old) - k2)

    return estimate


ESTIMATORS: dict[str, Estimator] = {
    "k1": _k1,
    "k2": _k2,
    "k3": _k3,
    "k1+": _with_gradient_of_k2(_k1),
    "k3+": _with_gradient_of_k2(_k3),
    "k3_unbiased": _k3_unbiased,
}


def _estimated(estimator: Estimator) -> Objective:
    def token_loss(scores: Scores) -> jax.Array:
        return estimator(scores["logp"], jax.lax.stop_gradient(scores["reference.logp"]), scores["old"])

    needs = frozenset({"logp", "reference.logp"})
    objective = token_mean("kl/reference", needs, token_loss)

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        old_BxT = scores["logp"] if batch.old_logp_BxT is None else batch.old_logp_BxT
        return objective.loss({**scores, "old": jax.lax.stop_gradient(old_BxT)}, batch, normalizers)

    return objective._replace(loss=loss)
