"""What stands in for the expected advantage, token by token: l_t is minimised. r is the ratio, A the advantage."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.objectives.pieces import check_number
from lrm_align.objectives.tokens import Tokens, exp, trace_mean, trace_sum

Seen = dict[str, jax.Array]  # {metric: BxT}, reported as a mean over the trained tokens
Surrogate = Callable[[Tokens], Any]  # to loss_BxT, or to (loss_BxT, Seen)


def clip(low: float = 0.2, high: float = 0.2) -> Surrogate:
    """l = -min(r·A, clip(r, 1 - low, 1 + high)·A): PPO's, with separate bounds (DAPO, arXiv 2503.14476, section 3.1).

    Raises:
      UserError: a bound that is negative or not finite, or `low` above 1.
    """
    _check_clip("clip", low, high)

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        ratio_BxT = exp(tokens.log_ratio_BxT)
        A_BxT = tokens.advantage_BxT
        loss_BxT = -jnp.minimum(ratio_BxT * A_BxT, jnp.clip(ratio_BxT, 1 - low, 1 + high) * A_BxT)
        return loss_BxT, {
            "clip/low": (ratio_BxT < 1 - low) & (A_BxT < 0),
            "clip/high": (ratio_BxT > 1 + high) & (A_BxT > 0),
        }

    return surrogate


def dual_clip(low: float = 0.2, high: float = 0.2, cap: float = 3.0) -> Surrogate:
    """`clip`, and l = min(l, -cap·A) where A < 0: a token that grew likely can't dominate (arXiv 1912.09729).

    verl does this always, with 3. TRL's `delta` is the same wherever delta > 1 + high; smaller ones, which in TRL cut
    the ratio below the clip range, are refused here.

    Raises:
      UserError: a bound that is negative or not finite, or a cap of at most 1 + high.
    """
    clipped = clip(low, high)
    check_number("dual_clip", "cap", cap, 1 + high, above=True)

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        loss_BxT, seen = clipped(tokens)
        A_BxT = tokens.advantage_BxT
        limit_BxT = -cap * A_BxT
        capped_BxT = (A_BxT < 0) & (loss_BxT > limit_BxT)
        return jnp.where(capped_BxT, limit_BxT, loss_BxT), seen | {"clip/dual": capped_BxT}

    return surrogate


def cispo(cap: float = 5.0) -> Surrogate:
    """l = -sg[min(r, cap)]·A·log p: every token keeps a gradient (arXiv 2506.13585). `cap` is absolute, as in TRL.

    TRL calls the cap `epsilon_high`, whose default of 0.2 was meant for a clip range; 5.0 is ScaleRL's.

    Raises:
      UserError: a cap that is not above 0.
    """
    check_number("cispo", "cap", cap, 0.0, above=True)
    return _weighted(lambda ratio_BxT: jnp.minimum(ratio_BxT, cap), lambda ratio_BxT: {"clip/high": ratio_BxT > cap})


def cispo_two_sided(low: float = 0.2, high: float = 0.2) -> Surrogate:
    """l = -sg[clip(r, 1 - low, 1 + high)]·A·log p: CISPO with verl's bounds, which are distances from 1.

    Raises:
      UserError: a bound that is negative or not finite, or `low` above 1.
    """
    _check_clip("cispo_two_sided", low, high)
    return _weighted(
        lambda ratio_BxT: jnp.clip(ratio_BxT, 1 - low, 1 + high),
        lambda ratio_BxT: {"clip/low": ratio_BxT < 1 - low, "clip/high": ratio_BxT > 1 + high},
    )


def sapo(positive: float = 1.0, negative: float = 1.05) -> Surrogate:
    """l = -(4 / τ)·σ(τ·(r - 1))·A, τ = positive where A > 0, else negative: a soft gate, no clip (arXiv 2511.20347).

    Raises:
      UserError: a temperature that is not above 0.
    """
    check_number("sapo", "positive", positive, 0.0, above=True)
    check_number("sapo", "negative", negative, 0.0, above=True)

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        temperature_BxT = jnp.where(tokens.advantage_BxT > 0, positive, negative)
        gate_BxT = jax.nn.sigmoid(temperature_BxT * (exp(tokens.log_ratio_BxT) - 1)) * 4 / temperature_BxT
        return -gate_BxT * tokens.advantage_BxT, {}

    return surrogate


def plain() -> Surrogate:
    """l = -r·A, unbounded: the policy gradient with importance weights; on-policy its gradient is REINFORCE's."""
    return lambda tokens: (-exp(tokens.log_ratio_BxT) * tokens.advantage_BxT, {})


def reinforce() -> Surrogate:
    """l = -A·log p, without a ratio (verl `gpg`)."""
    return lambda tokens: (-tokens.advantage_BxT * tokens.logp_BxT, {})


def gmpo(low: float = 0.4, high: float = 0.4) -> Surrogate:
    """l = -A·exp(mean_t u_t), the geometric mean of clipped token ratios (GMPO, arXiv 2507.20673, equation 4).

    u = min(Δ, clip(Δ, -low, high)) where A > 0, else max of the two, with Δ = log p - log p_old: the bounds are of
    logs. It pools the tokens itself, so that it ignores the ratio level; aggregate by "sequence_mean".

    Raises:
      UserError: a bound that is negative or not finite.
    """
    check_number("gmpo", "low", low, 0.0)
    check_number("gmpo", "high", high, 0.0)

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        delta_BxT, A_BxT = tokens.delta_BxT, tokens.advantage_BxT
        bounded_BxT = jnp.clip(delta_BxT, -low, high)
        pick_BxT = jnp.where(A_BxT > 0, jnp.minimum(delta_BxT, bounded_BxT), jnp.maximum(delta_BxT, bounded_BxT))
        return -A_BxT * exp(trace_mean(pick_BxT, tokens)), {
            "clip/low": (delta_BxT < -low) & (A_BxT < 0),
            "clip/high": (delta_BxT > high) & (A_BxT > 0),
        }

    return surrogate


def vespo(
    k_positive: float = 2.0, lambda_positive: float = 3.0, k_negative: float = 3.0, lambda_negative: float = 2.0
) -> Surrogate:
    """l = -sg[φ(W)]·A·log p, φ(W) = W^k·e^(λ(1 - W)), W = Π_t r_t over the trace (VESPO, arXiv 2602.10693).

    (k, λ) are the positive ones where A >= 0. As in TRL a token's log-ratio is cut at ±20 and log W to
    [log 1e-8, 20]; unlike there a sampler correction multiplies l and does not enter W. It pools the tokens itself, so
    that it ignores the ratio level.

    Raises:
      UserError: an argument that is negative or not finite.
    """
    given = {"k_positive": k_positive, "lambda_positive": lambda_positive, "k_negative": k_negative}
    for argument, value in (given | {"lambda_negative": lambda_negative}).items():
        check_number("vespo", argument, value, 0.0)

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        A_BxT = tokens.advantage_BxT
        log_W_BxT = jnp.clip(trace_sum(jnp.clip(tokens.delta_BxT, -20.0, 20.0), tokens), jnp.log(1e-8), 20.0)
        k_BxT = jnp.where(A_BxT >= 0, k_positive, k_negative)
        lambda_BxT = jnp.where(A_BxT >= 0, lambda_positive, lambda_negative)
        phi_BxT = jax.lax.stop_gradient(jnp.exp(k_BxT * log_W_BxT + lambda_BxT * (1 - jnp.exp(log_W_BxT))))
        return -phi_BxT * A_BxT * tokens.logp_BxT, {}

    return surrogate


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "clip": clip,
    "dual_clip": dual_clip,
    "cispo": cispo,
    "cispo_two_sided": cispo_two_sided,
    "sapo": sapo,
    "plain": plain,
    "reinforce": reinforce,
    "gmpo": gmpo,
    "vespo": vespo,
}


def _weighted(weight: Callable[[jax.Array], jax.Array], seen: Callable[[jax.Array], Seen]) -> Surrogate:
    """l = -sg[weight(r)]·A·log p."""

    def surrogate(tokens: Tokens) -> tuple[jax.Array, Seen]:
        ratio_BxT = jax.lax.stop_gradient(exp(tokens.log_ratio_BxT))
        return -weight(ratio_BxT) * tokens.advantage_BxT * tokens.logp_BxT, seen(ratio_BxT)

    return surrogate


def _check_clip(name: str, low: float, high: float) -> None:
    check_number(name, "low", low, 0.0, 1.0)
    check_number(name, "high", high, 0.0)
