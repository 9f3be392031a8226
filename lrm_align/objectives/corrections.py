"""Weights for a sampler whose probabilities differ from the trainer's: ω = p_old / p_sampler, a constant.

They multiply the surrogate, not the KL term. They are computed of the tokens as sampled; what top-p or a temperature
outside of the log-probabilities did to the sampler's distribution they can't know. ω_t is cut at e^20.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrm_align.objectives.pieces import check_bounds
from lrm_align.objectives.tokens import Tokens, exp, trace_mean, trace_sum

Correction = Callable[[Tokens], jax.Array]  # to weight_BxT


def token_truncate(low: float = 0.0, high: float = 2.0) -> Correction:
    """clip(ω_t, low, high): TIS; TRL `token_truncate`, OpenRLHF `tis` (0.5, 5), verl and Tunix `token` (0, 2)."""
    check_bounds("token_truncate", low, high)
    return lambda tokens: jnp.clip(exp(_log_weight(tokens)), low, high)


def token_mask(low: float = 0.5, high: float = 2.0) -> Correction:
    """ω_t where low <= ω_t <= high, else 0: TRL `token_mask`, OpenRLHF `icepop`, verl with a threshold "low_high"."""
    check_bounds("token_mask", low, high)
    return lambda tokens: _within(exp(_log_weight(tokens)), low, high)


def sequence_truncate(low: float = 0.0, high: float = 2.0) -> Correction:
    """clip(Π_t ω_t, low, high) on all tokens of a trace: TRL `sequence_truncate`, verl `sequence` (0, 2)."""
    check_bounds("sequence_truncate", low, high)
    return lambda tokens: jnp.clip(exp(trace_sum(_log_weight(tokens), tokens)), low, high)


def sequence_mask(low: float = 0.0, high: float = 3.0) -> Correction:
    """Π_t ω_t where it is within bounds, else 0: TRL `sequence_mask`, its default with vLLM (0, 3)."""
    check_bounds("sequence_mask", low, high)
    return lambda tokens: _within(exp(trace_sum(_log_weight(tokens), tokens)), low, high)


def geometric_filter(low: float = 0.8, high: float = 1.2) -> Correction:
    """ω_t in traces whose geometric mean (Π_t ω_t)^(1/n) is within bounds, else 0: OpenRLHF `seq-mask-tis`.

    ω_t itself has no bound, as there. verl's `seq_mean_k1` drops traces by the same mean but leaves the rest
    unweighted, and applies its bounds to 1 / ω.
    """
    check_bounds("geometric_filter", low, high)

    def weight(tokens: Tokens) -> jax.Array:
        log_BxT = _log_weight(tokens)
        mean_BxT = exp(trace_mean(log_BxT, tokens))
        return jnp.where((mean_BxT >= low) & (mean_BxT <= high), exp(log_BxT), 0.0)

    return weight


CORRECTIONS: dict[str, Callable[..., Correction | None]] = {
    "none": lambda: None,
    "token_truncate": token_truncate,
    "token_mask": token_mask,
    "sequence_truncate": sequence_truncate,
    "sequence_mask": sequence_mask,
    "geometric_filter": geometric_filter,
}


def _log_weight(tokens: Tokens) -> jax.Array:
    return tokens.old_logp_BxT - tokens.sampler_logp_BxT


def _within(weight_BxT: jax.Array, low: float, high: float) -> jax.Array:
    return jnp.where((weight_BxT >= low) & (weight_BxT <= high), weight_BxT, 0.0)
