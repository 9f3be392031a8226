"""Distributions over a vocabulary: entropy and divergences that are right where probabilities vanish in float32."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Distribution(NamedTuple):
    """p = softmax(logits / temperature) over the last axis.

    Attributes:
      logits: as they came.
      shifted: (logits - max logits) / temperature; -inf at padding. The maximum goes first: the difference of near
        numbers is exact, and what logits have in common, however large, costs no digit.
      log_total: log Σ e^shifted, one entry a distribution.
      real: which entries are vocabulary; None where all are.
      temperature: divided the logits.
    """

    logits: jax.Array
    shifted: jax.Array
    log_total: jax.Array
    real: Any
    temperature: float

    @property
    def logp(self) -> jax.Array:
        """log p, finite also where p is 0 in float32; -inf at padding."""
        return self.shifted - self.log_total

    def over_vocabulary(self, values: jax.Array) -> jax.Array:
        """The values, 0 at padding; whether p is 0 in float32 is no matter."""
        return values if self.real is None else jnp.where(self.real, values, 0.0)


def distribution(logits: jax.Array, temperature: float = 1.0, vocab_size: int | None = None) -> Distribution:
    """The distribution of logits, of which those from `vocab_size` on are padding.

    >>> import numpy as np
    >>> far = distribution(np.float32([0.0, 3e4, 7.0]), temperature=0.5, vocab_size=2)
    >>> far.logp.tolist()
    [-60000.0, 0.0, -inf]
    """
    logits = jnp.asarray(logits)
    V = logits.shape[-1]
    real = jnp.arange(V) < vocab_size if vocab_size is not None and vocab_size < V else None
    seen = logits if real is None else jnp.where(real, logits, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(seen, axis=-1, keepdims=True))
    shifted = (seen - top) / temperature
    log_total = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))
    return Distribution(logits, shifted, log_total, real, temperature)


def entropy(policy: Distribution) -> jax.Array:
    """H = -Σ p log p, with the gradient -p·(log p + H) in the logits / temperature."""
    p, logp = jnp.exp(policy.logp), policy.over_vocabulary(policy.logp)
    return -_with_slope(jnp.sum(p * logp, axis=-1), p, logp)


def kl_forward(policy: Distribution, reference: Distribution) -> jax.Array:
    """KL(r‖p) = Σ r log(r/p), with the gradient p - r in the policy's logits / temperature; the reference is constant.

    >>> import numpy as np
    >>> policy, reference = distribution(np.float32([1e4, 0])), distribution(np.float32([0, 1e4]))
    >>> float(kl_forward(policy, reference)), float(kl_reverse(policy, reference))
    (10000.0, 10000.0)
    """
    reference = jax.lax.stop_gradient(reference)
    return _divergence(reference, policy)


def kl_reverse(policy: Distribution, reference: Distribution) -> jax.Array:
    """KL(p‖r) = Σ p log(p/r), with the gradient p·(log(p/r) - KL) in the policy's logits / temperature.

    Where the two are far apart, log(p/r) is huge for every likely token, and the differences between tokens, which are
    what is learned, would drown in its rounding. The gradient is therefore one of log(p/r) up to a constant: of the
    reference's logits as they came, less their mean under p.
    """
    reference = jax.lax.stop_gradient(reference)
    p, ref_logits = jnp.exp(policy.logp), reference.over_vocabulary(reference.logits)
    gap = policy.shifted - (ref_logits - _mean(p, ref_logits)) / policy.temperature
    return _with_slope(_divergence(policy, reference), p, policy.over_vocabulary(gap))


DIVERGENCES = {"kl_forward": kl_forward, "kl_reverse": kl_reverse}


def _divergence(of: Distribution, other: Distribution) -> jax.Array:
    """Σ p log(p/q) as Σ (p log(p/q) - p + q), which is the same, since both sum to one.

    No term is negative, so that nothing cancels: where the two are nearly equal, Σ p log(p/q) would be the difference
    of large sums. The divergence that remains is right to its own digits, and never below 0.
    """
    p, q = jnp.exp(of.logp), jnp.exp(other.logp)
    gap = of.over_vocabulary(of.logp - other.logp)
    near = jnp.clip(gap, -1.0, 1.0)
    return jnp.sum(jnp.where(jnp.abs(gap) < 1, p * (near + jnp.expm1(-near)), p * gap - p + q), axis=-1)


def _with_slope(value: jax.Array, p: jax.Array, weight: jax.Array) -> jax.Array:
    """The value, with the gradient of Σ p·w at constant w: p·(w - Σ p·w) in the logits / temperature.

    A constant in w changes nothing, so that its mean is taken off before it can cost digits.
    """
    slope = jnp.sum(p * jax.lax.stop_gradient(weight - _mean(p, weight)), axis=-1)
    return jax.lax.stop_gradient(value) + (slope - jax.lax.stop_gradient(slope))


def _mean(p: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.sum(p * values, axis=-1, keepdims=True)
