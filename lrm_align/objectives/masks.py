"""Which traces and tokens a policy gradient leaves out, beyond the loss mask.

Tokens that a tool or an intervention wrote need no mask here: a batch's loss mask has only what was sampled.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.objectives.objective import Normalizers, Scores
from lrm_align.objectives.pieces import check_number
from lrm_align.objectives.segments import spread
from lrm_align.objectives.tokens import Tokens, trace_mean

ENTROPY_THRESHOLD = "entropy_threshold"


class Mask(NamedTuple):
    """What to leave out, in one of two ways.

    Attributes:
      trained: batch -> BxT, 0 where a token leaves the loss mask: it counts nowhere, in no length or total either.
      keep: (tokens, normalizers) -> BxT, 0 where a token's surrogate is left out; it counts in lengths and totals, and
        its KL and entropy terms stay.
      needs: scores that it reads.
      columns: of the batch that it can't do without: one of each tuple.
      statistics: as `Objective.batch_statistics`, under the loss mask after `trained`.
    """

    trained: Callable[[Batch], jax.Array] | None = None
    keep: Callable[[Tokens, Normalizers], jax.Array] | None = None
    needs: frozenset[str] = frozenset()
    columns: tuple[tuple[str, ...], ...] = ()
    statistics: Callable[[Scores, Batch], Normalizers] | None = None


def truncated() -> Mask:
    """Traces that hit the limit of their length are not trained on (DAPO's overlong filtering).

    TRL `mask_truncated_completions`; these traces still count in the statistics of their group's rewards.
    """

    def trained(batch: Batch) -> jax.Array:
        return spread(jnp.asarray(batch.truncated_BxS) != 1, batch.segment_ids_BxT)

    return Mask(trained=trained, columns=(("truncated_BxS",),))


def off_policy_sequence(threshold: float) -> Mask:
    """Leaves out a trace with A < 0 where mean_t(log p_behaviour - log p) > threshold (DeepSeek-V3.2, equation 9).

    The behaviour policy is the sampler where its log-probabilities are known, else the old policy. TRL
    `off_policy_mask_threshold`.

    Raises:
      UserError: a threshold that is negative or not finite; in use, a batch with neither column.
    """
    check_number("off_policy_sequence", "threshold", threshold, 0.0)

    def keep(tokens: Tokens, normalizers: Normalizers) -> jax.Array:
        behaviour_BxT = tokens.old_logp_BxT if tokens.sampler_logp_BxT is None else tokens.sampler_logp_BxT
        drift_BxT = trace_mean(behaviour_BxT - jax.lax.stop_gradient(tokens.logp_BxT), tokens)
        return (tokens.advantage_BxT >= 0) | (drift_BxT <= threshold)

    return Mask(keep=keep, columns=(("sampler_logp_BxT", "old_logp_BxT"),))


def top_entropy(share: float = 0.2) -> Mask:
    """Keeps the tokens whose entropy is at or above the (1 - share) quantile of the global batch (arXiv 2506.01939).

    The quantile interpolates between neighbours. Lengths and totals stay those of all tokens. TRL
    `top_entropy_quantile`, where the entropy bonus is restricted to these tokens as well; here it is not.

    Raises:
      UserError: a share outside of (0, 1].
    """
    check_number("top_entropy", "share", share, 0.0, 1.0, above=True)

    def statistics(scores: Scores, batch: Batch) -> Normalizers:
        return {ENTROPY_THRESHOLD: masked_quantile(scores["entropy"], batch.loss_mask_BxT, 1 - share)}

    def keep(tokens: Tokens, normalizers: Normalizers) -> jax.Array:
        return jax.lax.stop_gradient(tokens.entropy_BxT) >= normalizers[ENTROPY_THRESHOLD]

    return Mask(keep=keep, needs=frozenset({"entropy"}), statistics=statistics)


def masked_quantile(values_BxT: jax.Array, mask_BxT: jax.Array, quantile: float) -> jax.Array:
    """The quantile of the values under a mask, interpolated; infinite where there are none.

    >>> import numpy as np
    >>> float(masked_quantile(np.float32([[4, 1, 9, 2]]), np.float32([[1, 1, 0, 1]]), 0.75))
    3.0
    """
    kept_BxT = jnp.asarray(mask_BxT) > 0
    ordered = jnp.sort(jnp.where(kept_BxT, values_BxT, jnp.inf).ravel())
    place = quantile * jnp.maximum(jnp.sum(kept_BxT) - 1, 0)
    below, above = jnp.floor(place).astype(jnp.int32), jnp.ceil(place).astype(jnp.int32)
    # A difference of infinities has no value: where nothing is under the mask, both neighbours are infinite.
    gap = jnp.where(below == above, 0.0, ordered[above] - ordered[below])
    return ordered[below] + gap * (place - below)


MASKS: dict[str, Callable[..., Mask]] = {
    "truncated": truncated,
    "off_policy_sequence": off_policy_sequence,
    "top_entropy": top_entropy,
}
