"""How far the learner's log-probabilities are from those that the sampler recorded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.batch import Batch
from lrm_align.objectives import Objective
from lrm_align.objectives import histogram as histogram_
from lrm_align.objectives.objective import STEP, Metrics, Normalizers, Scores, masked_sum

NAME = "gap"


def with_gap(objective: Objective, updates: int = 1) -> Objective:
    """The objective, which also reports |log π_learner - log π_sampler| of the trained tokens.

    `gap/mean` in nats, and `gap/histogram`, of which `tail` makes the 99th percentile and the maximum. The learner's
    are those of the policy that the updates of a step start from: the batch's old ones where they were recomputed, and
    those are of all tokens; else the ones at hand in the first update, when the policy is still that one. Then the
    first minibatch of each step is the sample that is measured, at no cost.

    Args:
      objective: whose batches have the sampler's log-probabilities.
      updates: of one step.
    """

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        value, metrics = objective.loss(scores, batch, normalizers)
        mask_BxT = jnp.asarray(batch.loss_mask_BxT)
        learner_BxT: Any = batch.old_logp_BxT
        if learner_BxT is None:
            learner_BxT = jax.lax.stop_gradient(scores["logp"])
            mask_BxT = jnp.where(normalizers.get(STEP, 0) % updates == 0, mask_BxT, 0.0)
        gap_BxT = jnp.abs(learner_BxT - jnp.asarray(batch.sampler_logp_BxT))
        measured = jnp.sum(mask_BxT, dtype=jnp.float32)
        own = {
            f"{NAME}/mean": (masked_sum(mask_BxT, gap_BxT), measured),
            f"{NAME}/histogram": histogram_.histogram(gap_BxT, mask_BxT),
        }
        return value, {**metrics, **own}

    return objective._replace(needs=objective.needs | {"logp"}, loss=loss)


def tail(counts: np.ndarray) -> dict[str, float]:
    """`gap/p99` and `gap/max` of a histogram's counts; the maximum is the upper end of the last bin that holds any.

    >>> counts = np.zeros(histogram_.BINS)
    >>> counts[histogram_.EDGES.index(0.01)] = 100
    >>> {name: round(value, 4) for name, value in tail(counts).items()}
    {'gap/p99': 0.01, 'gap/max': 0.01}
    """
    last = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
    top = histogram_.EDGES[min(last, len(histogram_.EDGES) - 1)]
    return {f"{NAME}/p99": histogram_.quantile(counts, 0.99), f"{NAME}/max": float(top)}
