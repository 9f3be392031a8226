"""Batches of completions and the evaluation of a policy gradient on them, for comparisons with other trainers."""

import jax
import numpy as np

from lrm_align.batch import Batch
from lrm_align.objectives import Objective


def rows(logps, mask, advantages, **columns) -> tuple[Batch, dict]:
    """Completions as a batch, one in a row; "reference.logp" and "entropy" are scores, all else columns."""
    segments = np.ones(mask.shape, np.int32)
    scores = {"logp": logps} | {name: columns.pop(name) for name in ("reference.logp", "entropy") if name in columns}
    batch = Batch(
        segments,
        segments,
        np.broadcast_to(np.arange(mask.shape[1]), mask.shape),
        mask.astype(logps.dtype),
        advantage_BxT=np.broadcast_to(advantages[:, None], mask.shape).astype(logps.dtype),
        **columns,
    )
    return batch, scores


def value_and_metrics(objective: Objective, scores: dict, batch: Batch):
    """(loss, metrics), as a training step gets them."""
    normalizers = objective.normalizers(batch)
    if objective.batch_statistics is not None:
        normalizers |= objective.batch_statistics(scores, batch)
    return objective.loss(scores, batch, normalizers)


def evaluate(objective: Objective, batch: Batch, scores: dict) -> tuple[jax.Array, jax.Array]:
    """Loss and gradient with respect to the log-probabilities."""
    return jax.value_and_grad(lambda logp: value_and_metrics(objective, {**scores, "logp": logp}, batch)[0])(
        scores["logp"]
    )
