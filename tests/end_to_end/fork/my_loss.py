"""A loss of one's own: likelihood in which tokens that the model is already sure of count less."""

import jax.numpy as jnp

from lrm_align.objectives import Objective, token_mean


def objective(gamma: int = 2) -> Objective:
    """Focal loss, -(1 - p)^gamma · log p, as a mean over the trained tokens of the global batch."""

    def token_loss(scores):
        logp_BxT = scores["logp"]
        return -((1 - jnp.exp(logp_BxT)) ** gamma) * logp_BxT

    return token_mean("focal", frozenset({"logp"}), token_loss)
