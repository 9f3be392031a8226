"""Keys and values of the tokens decoded so far, one slot a row, in two layouts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cache(NamedTuple):
    """Layers stacked on axis 0, for a decoder that scans over layers."""

    k_LxBxCxKxH: jax.Array
    v_LxBxCxKxH: jax.Array

    @staticmethod
    def empty(layers: int, slots: int, length: int, heads: int, size: int, dtype: str) -> "Cache":
        """Zeros."""
        shape = (layers, slots, length, heads, size)
        return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def put(self, k_LxWxTxKxH: jax.Array, v_LxWxTxKxH: jax.Array, slots_W: jax.Array) -> "Cache":
        """Writes the first T positions of some slots; a slot beyond the last is skipped."""
        T = k_LxWxTxKxH.shape[2]
        new = zip(self, (k_LxWxTxKxH, v_LxWxTxKxH))
        return Cache(*(old.at[:, slots_W, :T].set(read.astype(old.dtype), mode="drop") for old, read in new))


class LayerCaches(NamedTuple):
    """An array a layer, keys with the position innermost, for a decoder that unrolls its layers.

    No layer is ever sliced out of the cache, and both products run along the innermost axis: half the time a token on
    a CPU.
    """

    k_BxKxHxC: tuple[jax.Array, ...]
    v_BxKxCxH: tuple[jax.Array, ...]

    @staticmethod
    def empty(layers: int, slots: int, length: int, heads: int, size: int, dtype: str) -> "LayerCaches":
        """Zeros."""
        k, v = (slots, heads, size, length), (slots, heads, length, size)
        return LayerCaches(
            tuple(jnp.zeros(k, dtype) for _ in range(layers)), tuple(jnp.zeros(v, dtype) for _ in range(layers))
        )

    def put(self, k_LxWxTxKxH: jax.Array, v_LxWxTxKxH: jax.Array, slots_W: jax.Array) -> "LayerCaches":
        """Writes the first T positions of some slots; a slot beyond the last is skipped."""
        T = k_LxWxTxKxH.shape[2]
        k = jnp.transpose(k_LxWxTxKxH, (0, 1, 3, 4, 2))
        v = jnp.transpose(v_LxWxTxKxH, (0, 1, 3, 2, 4))
        return LayerCaches(
            tuple(a.at[slots_W, :, :, :T].set(k[i].astype(a.dtype), mode="drop") for i, a in enumerate(self.k_BxKxHxC)),
            tuple(a.at[slots_W, :, :T].set(v[i].astype(a.dtype), mode="drop") for i, a in enumerate(self.v_BxKxCxH)),
        )
