"""Sums over the traces of packed rows, and back: S traces stand in a row, segment s at s - 1."""

import functools

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch

# Up to so many traces in a row, sums over them are masked sums: one fused pass, the same on every device and in every
# run, with no scatter in it nor in its gradient. Its cost grows with T·S, so that beyond, values are scattered, which a
# GPU adds up in no fixed order.
WIDEST_MASK = 64


def segment_sum(values_BxT: jax.Array, segment_ids_BxT: jax.Array, num_segments: int) -> jax.Array:
    """Σ of the values of each trace, BxS; padding is dropped.

    Args:
      values_BxT: anything that adds.
      segment_ids_BxT: 0 for padding, 1… for the traces of a row.
      num_segments: S; traces beyond it are dropped.

    >>> import numpy as np
    >>> segment_sum(np.float32([[1, 2, 4, 8]]), np.int32([[1, 1, 2, 0]]), 3).tolist()
    [[3.0, 4.0, 0.0]]
    """
    values_BxT, segment_ids_BxT = jnp.asarray(values_BxT), jnp.asarray(segment_ids_BxT)
    if num_segments <= WIDEST_MASK:
        return jnp.sum(jnp.where(_member(segment_ids_BxT, num_segments), values_BxT[..., None], 0), axis=1)
    kept_BxT = jnp.where(segment_ids_BxT > 0, values_BxT, 0)
    add = functools.partial(jax.ops.segment_sum, num_segments=num_segments + 1)
    return jax.vmap(add)(kept_BxT, segment_ids_BxT)[:, 1:]


def spread(values_BxS: jax.Array, segment_ids_BxT: jax.Array) -> jax.Array:
    """The value of each token's trace, BxT; 0 at padding.

    >>> import numpy as np
    >>> spread(np.float32([[3, 4, 9]]), np.int32([[1, 1, 2, 0]])).tolist()
    [[3.0, 3.0, 4.0, 0.0]]
    """
    values_BxS, segment_ids_BxT = jnp.asarray(values_BxS), jnp.asarray(segment_ids_BxT)
    if values_BxS.shape[1] <= WIDEST_MASK:
        return jnp.sum(jnp.where(_member(segment_ids_BxT, values_BxS.shape[1]), values_BxS[:, None, :], 0), axis=2)
    padded_BxS = jnp.pad(values_BxS, ((0, 0), (1, 0)))
    return jnp.take_along_axis(padded_BxS, segment_ids_BxT, axis=1, mode="fill", fill_value=0)


def num_segments(batch: Batch) -> int:
    """S: the most traces that a row of this batch may hold; its length where no column says so."""
    for column_BxS in (batch.tag_BxS, batch.pair_BxS, batch.truncated_BxS):
        if column_BxS is not None:
            return column_BxS.shape[1]
    return batch.segment_ids_BxT.shape[1]


def _member(segment_ids_BxT: jax.Array, num_segments: int) -> jax.Array:
    """BxTxS: which trace a token belongs to."""
    return segment_ids_BxT[..., None] == jnp.arange(1, num_segments + 1)
