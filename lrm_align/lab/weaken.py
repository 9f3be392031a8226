"""A weakened organism, for runs that must show that learning from rewards teaches something."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.errors import UserError


def noise(scale: float, seed: int = 0) -> Callable[[Any], Any]:
    """W + scale · σ(W) · ε, ε ~ N(0, 1), for every matrix W of every layer; norms stay as they are.

    What the organism knows is damaged everywhere a little, and nothing in particular is unlearned. Equal on every
    machine, but for rounding.

    Args:
      scale: of the noise, in standard deviations of the matrix.
      seed: of the noise.

    Returns:
      parameters -> weakened parameters of the same dtypes.

    Raises:
      UserError: a scale that is negative or not finite.
    """
    if not 0 <= scale < float("inf"):
        raise UserError(f"weaken: scale is {scale}; it must be at least 0 and finite")
    return functools.partial(_noised, scale, jax.random.key(seed))


def _noised(scale: float, key: jax.Array, params: Any) -> Any:
    keys = iter(jax.random.split(key, len(jax.tree.leaves(params))))
    return jax.tree.map_with_path(lambda path, leaf: _one(scale, next(keys), path, leaf), params)


def _one(scale: float, key: jax.Array, path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
    names = [entry.key for entry in path]
    if "norm" in names[-1]:
        return leaf
    within = tuple(range(1 if names[0] == "layers" else 0, leaf.ndim))  # layers are stacked on axis 0
    exact = leaf.astype(jnp.float32)
    deviation = jnp.std(exact, axis=within, keepdims=True)
    return (exact + scale * deviation * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)
