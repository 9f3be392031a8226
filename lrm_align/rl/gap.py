"""How far the learner's log-probabilities are from those that the sampler recorded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.batch import Batch
from lrm_align.objectives import Objective
from lrm_align.objectives import histogram as histogram_
from lrm_align.objectives.objective import Metrics, Normalizers, Scores, masked_sum

NAME = "gap"


def with_gap(objective: Objective) -> Objective:
    """The objective, which also reports |log π_learner - log π_sampler| of the trained tokens.

    `gap/mean` in nats, and `gap/histogram`, of which `tail` makes the 99th percentile and the maximum. The learner's
    are those of the policy that the update started from, where the batch has them, and else the ones at hand.
    """

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        value, metrics = objective.loss(scores, batch, normalizers)
        learner_BxT: Any = scores["logp"] if batch.old_logp_BxT is None else batch.old_logp_BxT
        mask_BxT = jnp.asarray(batch.loss_mask_BxT)
        gap_BxT = jnp.abs(jax.lax.stop_gradient(learner_BxT) - jnp.asarray(batch.sampler_logp_BxT))
        trained = jnp.sum(mask_BxT, dtype=jnp.float32)
        own = {
            f"{NAME}/mean": (masked_sum(mask_BxT, gap_BxT), trained),
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
