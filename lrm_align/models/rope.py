"""Rotary position embedding in the Hugging Face layout: the two halves of a head rotate against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models.config import RopeConfig


def frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Inverse frequencies, float64 of shape (head_dim / 2,), scaled as the config says.

    llama3 (Llama 3.1 model card): with wavelength w = 2π/f and original context C, f is kept where w < C/high,
    divided by the factor where w > C/low, and interpolated in between by s = (C/w - low)/(high - low).

    >>> frequencies(RopeConfig(theta=100.0), 4)
    array([1. , 0.1])
    """
    f = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "default":
        return f
    if rope.kind == "linear":
        return f / rope.factor
    wavelength = 2 * math.pi / f
    low, high, context = rope.low_freq_factor, rope.high_freq_factor, rope.original_max_positions
    smooth = np.clip((context / wavelength - low) / (high - low), 0.0, 1.0)
    return (1 - smooth) * f / rope.factor + smooth * f


def angles(rope: RopeConfig, head_dim: int, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32, of shape positions.shape + (head_dim / 2,).

    float32 throughout: bfloat16 rounds position 257 to 256.
    """
    f = jnp.asarray(frequencies(rope, head_dim), jnp.float32)
    theta = positions.astype(jnp.float32)[..., None] * f
    return jnp.cos(theta), jnp.sin(theta)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates heads x_…xNxH by angles of shape …x(H/2); computes in float32, returns x's dtype."""
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
