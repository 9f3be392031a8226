"""What the pieces of a policy gradient see: the trained tokens of packed rows, everything else 0."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.objectives.objective import Scores, divided, sum_type
from lrm_align.objectives.segments import num_segments, segment_sum, spread

LARGEST_LOG = 20.0  # e^20 = 4.9e8: what a ratio is cut at before it overflows, with gradient 0 beyond


class Tokens(NamedTuple):
    """Scores and columns under the loss mask; values are 0 where nothing is trained.

    Attributes:
      logp_BxT: of the policy; the gradient flows here.
      delta_BxT: logp - old_logp, the log-ratio of each token.
      log_ratio_BxT: the log of the importance ratio at the level chosen; `delta_BxT` until then.
      advantage_BxT: of each token.
      mask_BxT: the loss mask.
      segment_ids_BxT: trace of each token.
      num_segments: S.
      old_logp_BxT: of the policy that the update started from; without such a column the policy's own, as constants.
      sampler_logp_BxT: recorded by the sampler, or None. Where a token has none (NaN), that of the old policy, so that
        it speaks neither for nor against a correction.
      ref_logp_BxT, entropy_BxT: where asked for, else None.
    """

    logp_BxT: jax.Array
    delta_BxT: jax.Array
    log_ratio_BxT: jax.Array
    advantage_BxT: jax.Array
    mask_BxT: jax.Array
    segment_ids_BxT: jax.Array
    num_segments: int
    old_logp_BxT: jax.Array
    sampler_logp_BxT: Any
    ref_logp_BxT: Any
    entropy_BxT: Any


def trained_tokens(scores: Scores, batch: Batch, mask_BxT: jax.Array) -> Tokens:
    """The view of a batch under a mask. Columns are constants; only the policy's scores have a gradient."""
    dtype = sum_type(scores["logp"])

    def seen(values_BxT):
        # The choice comes before any arithmetic: what is not finite under no mask reaches no gradient either.
        return None if values_BxT is None else jnp.where(mask_BxT > 0, jnp.asarray(values_BxT, dtype), 0.0)

    logp_BxT = seen(scores["logp"])
    old_BxT = logp_BxT if batch.old_logp_BxT is None else seen(batch.old_logp_BxT)
    old_BxT = jax.lax.stop_gradient(old_BxT)
    sampler_BxT = seen(batch.sampler_logp_BxT)
    if sampler_BxT is not None:
        sampler_BxT = jax.lax.stop_gradient(jnp.where(jnp.isfinite(sampler_BxT), sampler_BxT, old_BxT))
    delta_BxT = logp_BxT - old_BxT
    return Tokens(
        logp_BxT,
        delta_BxT,
        delta_BxT,
        jax.lax.stop_gradient(seen(batch.advantage_BxT)),
        mask_BxT,
        jnp.asarray(batch.segment_ids_BxT),
        num_segments(batch),
        old_BxT,
        sampler_BxT,
        seen(scores.get("reference.logp")),
        seen(scores.get("entropy")),
    )


def exp(log_BxT: jax.Array) -> jax.Array:
    """e^x, constant beyond e^20: a log-ratio of 10,000 gives a large, finite loss, and no gradient."""
    return jnp.exp(jnp.minimum(log_BxT, LARGEST_LOG))


def trace_sum(values_BxT: jax.Array, tokens: Tokens) -> jax.Array:
    """Σ m·x over the trace of each token, at each of its tokens."""
    sums_BxS = segment_sum(tokens.mask_BxT * values_BxT, tokens.segment_ids_BxT, tokens.num_segments)
    return spread(sums_BxS, tokens.segment_ids_BxT)


def trace_mean(values_BxT: jax.Array, tokens: Tokens) -> jax.Array:
    """Σ m·x / Σ m over the trace of each token, at each of its tokens; 0 in a trace without trained tokens."""
    lengths_BxT = trace_sum(jnp.ones_like(tokens.mask_BxT), tokens)
    return divided(trace_sum(values_BxT, tokens), lengths_BxT)
