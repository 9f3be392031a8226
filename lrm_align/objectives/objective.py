"""What a loss is: a value made of pure functions of token scores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch

Scores = Mapping[str, jax.Array]  # {name: BxT}
Normalizers = dict[str, jax.Array]  # scalars
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # {name: (sum, weight)}; they add over micro-batches
STEP = "step"  # the reserved normalizer that holds the number of the step


class Objective(NamedTuple):
    """A loss that knows no model, mesh or optimizer.

    Attributes:
      needs: names of the scores that `loss` reads: "logp", "entropy", "kl_forward", "kl_reverse" of the policy, and
        "reference.logp". The training step computes these and no others.
      normalizers: from the whole global batch, before any forward pass, to the scalars that the sums are divided by.
        It may read masks, segments and tags only, so that a batch in k pieces has the loss of the batch in one. The
        training step adds `STEP`, for weights that change with it.
      loss: (scores, batch, normalizers) -> (loss, metrics), on the whole batch or on some of its rows: the losses of
        the pieces add up to the loss of the batch. `metrics` is {name: (sum, weight)}; a histogram's sum is a vector,
        see `objectives.histogram`.
      batch_statistics: where a loss needs a statistic of the scores of the whole batch: (scores, batch) -> further
        entries of the normalizers. It is run first, without gradient.
    """

    needs: frozenset[str]
    normalizers: Callable[[Batch], Normalizers]
    loss: Callable[[Scores, Batch, Normalizers], tuple[jax.Array, Metrics]]
    batch_statistics: Callable[[Scores, Batch], Normalizers] | None = None


def masked_sum(mask_BxT: jax.Array, values_BxT: jax.Array) -> jax.Array:
    """Σ_t m_t · x_t in float32 at least, by choice before product: what is not finite under no mask adds exactly 0."""
    return jnp.sum(mask_BxT * jnp.where(mask_BxT > 0, values_BxT, 0.0), dtype=sum_type(values_BxT))


def sum_type(values: jax.Array) -> Any:
    """The type that values are summed in: float32, or float64 where they are."""
    return jnp.promote_types(jnp.result_type(values), jnp.float32)


def divided(total: jax.Array, by: jax.Array) -> jax.Array:
    """total / by, and total where there is nothing to divide by."""
    return total / jnp.where(by > 0, by, 1.0)


def token_mean(name: str, needs: frozenset[str], token_loss: Callable[[Scores], Any]) -> Objective:
    """The mean of a loss of single tokens over the trained tokens of the global batch.

    L = Σ_t m_t · l_t / Σ_t m_t with m the loss mask. A batch without trained tokens has loss 0. `token_loss` sees
    scores of 0 where nothing is trained, so that a score that is not finite there reaches neither loss nor gradient.

    Args:
      name: of the metric.
      needs: scores that `token_loss` reads.
      token_loss: scores -> BxT.
    """

    def normalizers(batch: Batch) -> Normalizers:
        return {"tokens": jnp.sum(batch.loss_mask_BxT, dtype=jnp.float32)}

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        mask_BxT = batch.loss_mask_BxT
        seen = {key: jnp.where(mask_BxT > 0, score_BxT, 0.0) for key, score_BxT in scores.items()}
        total = masked_sum(mask_BxT, token_loss(seen))
        metrics = {name: (total, jnp.sum(mask_BxT, dtype=jnp.float32))}
        return divided(total, normalizers["tokens"]), metrics

    return Objective(needs, normalizers, loss)
