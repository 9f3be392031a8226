"""Packed rows of pairs from the arrays of other trainers: all chosen answers first, then the rejected ones."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lrm_align.batch import Batch


def columns_of(values_2PxL: Any) -> Any:
    """One row a pair, chosen before rejected; each answer after a first token, which has no score."""
    pairs = len(values_2PxL) // 2
    padded = jnp.pad(values_2PxL, ((0, 0), (1, 0)))
    return jnp.concatenate([padded[:pairs], padded[pairs:]], axis=1)


def by_answer(values_PxT: np.ndarray) -> np.ndarray:
    """The inverse of `columns_of`."""
    half = values_PxT.shape[1] // 2
    values = np.asarray(values_PxT)
    return np.concatenate([values[:, 1:half], values[:, half + 1 :]])


def batch_of(mask_2PxL: Any, tokens_2PxL: Any = None) -> Batch:
    """The rows of `columns_of` as a batch."""
    mask = columns_of(mask_2PxL)
    pairs, length = mask.shape
    positions = np.tile(np.arange(length // 2), (pairs, 2))
    tokens = np.zeros((pairs, length), np.int32) if tokens_2PxL is None else columns_of(tokens_2PxL)
    return Batch(
        tokens_BxT=tokens,
        segment_ids_BxT=np.repeat(np.int32([[1, 2]]), length // 2, axis=1).repeat(pairs, axis=0),
        positions_BxT=positions.astype(np.int32),
        loss_mask_BxT=mask,
        pair_BxS=np.tile(np.int32([[0, 1]]), (pairs, 1)),
    )
