"""Rotary position embedding in the Hugging Face layout: the two halves of a head rotate against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models.rope_config import RopeConfig


def frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Inverse frequencies, float64 of shape (head_dim / 2,), scaled as the config says.

    dynamic: those of sequences no longer than the original context; `angles` stretches longer ones.
    yarn (Peng et al. 2023, arXiv:2309.00071, 3.2): with r = C·f/2π turns in the original context C, f is kept where
    r > beta_fast, divided by the factor where r < beta_slow, and mixed in between by a ramp over dimensions.
    llama3 (Llama 3.1 model card): with wavelength w = 2π/f and original context C, f is kept where w < C/high,
    divided by the factor where w > C/low, and interpolated in between by s = (C/w - low)/(high - low).

    >>> frequencies(RopeConfig(theta=100.0), 4)
    array([1. , 0.1])
    """
    f = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind in ("default", "dynamic"):
        return f
    if rope.kind == "linear":
        return f / rope.factor
    if rope.kind == "yarn":
        divided = _yarn_ramp(rope, head_dim)
        return divided * f / rope.factor + (1 - divided) * f
    wavelength = 2 * math.pi / f
    low, high, context = rope.low_freq_factor, rope.high_freq_factor, rope.original_max_positions
    smooth = np.clip((context / wavelength - low) / (high - low), 0.0, 1.0)
    return (1 - smooth) * f / rope.factor + smooth * f


def _yarn_ramp(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """How much of each frequency is divided, float64 of shape (head_dim / 2,), from 0 to 1."""

    def dimension(turns: float) -> float:  # that turns so often in the original context
        return head_dim * math.log(rope.original_max_positions / (2 * math.pi * turns)) / (2 * math.log(rope.theta))

    first, last = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    last = last + 0.001 if first == last else last  # transformers' width of a step
    return np.clip((np.arange(head_dim // 2) - first) / (last - first), 0.0, 1.0)


def angles(
    rope: RopeConfig, head_dim: int, positions: jax.Array, lengths: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32, of shape positions.shape + (head_dim / 2,), times the attention factor.

    float32 throughout: bfloat16 rounds position 257 to 256. dynamic: for a sequence of length L > C, the original
    context, the base θ becomes θ·(factor·L/C - factor + 1)^(d/(d-2)), as in transformers; frequency i of d/2 is divided
    by the parenthesis to the power 2i/(d-2).

    Args:
      rope: parameters.
      head_dim: d.
      positions: integers of any shape.
      lengths: of the sequence that each position stands in, of the same shape; only read with "dynamic".
    """
    f = jnp.asarray(frequencies(rope, head_dim), jnp.float32)
    if rope.kind == "dynamic" and head_dim > 2:
        assert lengths is not None, "dynamic rope depends on the lengths of sequences"
        longer = jnp.maximum(lengths.astype(jnp.float32) / rope.original_max_positions, 1.0)
        power = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / (head_dim - 2)
        f = f * (rope.factor * longer - rope.factor + 1.0)[..., None] ** -power
    theta = positions.astype(jnp.float32)[..., None] * f
    return rope.attention_factor * jnp.cos(theta), rope.attention_factor * jnp.sin(theta)


def sequence_lengths(rope: RopeConfig, positions_BxT: jax.Array, segment_ids_BxT: jax.Array) -> jax.Array | None:
    """lengths_BxT of the packed sequences that tokens stand in, last position + 1; None if they change nothing."""
    if rope.kind != "dynamic":
        return None

    def of_row(positions_T: jax.Array, segment_ids_T: jax.Array) -> jax.Array:
        return jax.ops.segment_max(positions_T, segment_ids_T, segment_ids_T.size + 1)[segment_ids_T] + 1

    return jax.vmap(of_row)(positions_BxT, segment_ids_BxT)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates heads x_…xNxH by angles of shape …x(H/2); computes in float32, returns x's dtype."""
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
