"""What a loss is: a value made of pure functions of token scores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch

Scores = Mapping[str, jax.Array]  # {name: BxT}
Normalizers = dict[str, jax.Array]  # scalars
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # {name: (sum, weight)}; they add over micro-batches


class Objective(NamedTuple):
    """A loss that knows no model, mesh or optimizer.

    Attributes:
      needs: names of the scores that `loss` reads: "logp", "entropy", "kl_forward", "kl_reverse" of the policy, and
        "reference.logp". The training step computes these and no others.
      normalizers: from the whole global batch, before any forward pass, to the scalars that the sums are divided by.
        It may read masks, segments and tags only, so that a batch in k pieces has the loss of the batch in one.
      loss: (scores, batch, normalizers) -> (loss, metrics), on the whole batch or on some of its rows: the losses of
        the pieces add up to the loss of the batch. `metrics` is {name: (sum, weight)}.
      batch_statistics: where a loss needs a statistic of the scores of the whole batch: (scores, batch) -> further
        entries of the normalizers. It is run first, without gradient.
    """

    needs: frozenset[str]
    normalizers: Callable[[Batch], Normalizers]
    loss: Callable[[Scores, Batch, Normalizers], tuple[jax.Array, Metrics]]
    batch_statistics: Callable[[Scores, Batch], Normalizers] | None = None


def token_mean(name: str, needs: frozenset[str], token_loss: Callable[[Scores], Any]) -> Objective:
    """The mean of a loss of single tokens over the trained tokens of the global batch.

    L = Σ_t m_t · l_t / Σ_t m_t with m the loss mask. A batch without trained tokens has loss 0.

    Args:
      name: of the metric.
      needs: scores that `token_loss` reads.
      token_loss: scores -> BxT.
    """

    def normalizers(batch: Batch) -> Normalizers:
        return {"tokens": jnp.sum(batch.loss_mask_BxT, dtype=jnp.float32)}

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        mask_BxT = batch.loss_mask_BxT
        # The choice before the product: a score that is not finite where nothing is trained must not make 0 · inf.
        total = jnp.sum(mask_BxT * jnp.where(mask_BxT > 0, token_loss(scores), 0.0), dtype=jnp.float32)
        tokens = normalizers["tokens"]
        metrics = {name: (total, jnp.sum(mask_BxT, dtype=jnp.float32))}
        return total / jnp.where(tokens > 0, tokens, 1.0), metrics

    return Objective(needs, normalizers, loss)
