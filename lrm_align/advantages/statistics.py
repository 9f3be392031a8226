"""Means, deviations and spreads over the scored samples only; exact zeros where all values are equal."""

import jax
import jax.numpy as jnp

GROUP = (1,)
BATCH = (0, 1)
EPS = 1e-4  # TRL's; verl and Tunix add 1e-6, OpenRLHF 1e-9


def above_least(values_GxN: jax.Array, scored_GxN: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """x - min(x) over the scored samples, 0 elsewhere: what they have in common, however large, costs no digit."""
    least = jnp.min(jnp.where(scored_GxN, values_GxN, jnp.inf), axis=axes, keepdims=True)
    return jnp.where(scored_GxN, values_GxN - jnp.where(jnp.isfinite(least), least, 0), 0)


def centred(values_GxN: jax.Array, scored_GxN: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """x - mean(x) over the scored samples, 0 elsewhere.

    The least value is taken off first: equal values give exactly 0, where x - Σx/N leaves rounding that a small
    standard deviation would blow up.
    """
    shifted_GxN = above_least(values_GxN, scored_GxN, axes)
    mean = jnp.sum(shifted_GxN, axis=axes, keepdims=True) / jnp.maximum(count(scored_GxN, axes), 1)
    return jnp.where(scored_GxN, shifted_GxN - mean, 0)


def deviation(values_GxN: jax.Array, scored_GxN: jax.Array, axes: tuple[int, ...], ddof: int) -> jax.Array:
    """Standard deviation of the scored samples, with ddof taken off their number; 0 where fewer than two.

    In units of the largest distance from the mean, so that no square leaves the range of float32.
    """
    centred_GxN = centred(values_GxN, scored_GxN, axes)
    largest = jnp.max(jnp.abs(centred_GxN), axis=axes, keepdims=True)
    unit = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum((centred_GxN / unit) ** 2, axis=axes, keepdims=True)
    return unit * jnp.sqrt(squares / jnp.maximum(count(scored_GxN, axes) - ddof, 1))


def has_spread(values_GxN: jax.Array, scored_GxN: jax.Array, axes: tuple[int, ...], above: float = 0.0) -> jax.Array:
    """Whether the largest and the least scored value differ by more than `above`; false where fewer than two."""
    largest = jnp.max(jnp.where(scored_GxN, values_GxN, -jnp.inf), axis=axes, keepdims=True)
    least = jnp.min(jnp.where(scored_GxN, values_GxN, jnp.inf), axis=axes, keepdims=True)
    return largest - least > above


def count(scored_GxN: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """How many samples are scored."""
    return jnp.sum(scored_GxN, axis=axes, keepdims=True)


def scaled(
    values_GxN: jax.Array,
    scored_GxN: jax.Array,
    axes: tuple[int, ...],
    eps: float,
    ddof: int,
    of_GxN: jax.Array | None = None,
) -> jax.Array:
    """x / (σ + ε); 0 where there is no spread, whatever x is: x / ε would be noise of enormous size.

    σ and the spread are those of x, or of other values where given.
    """
    of_GxN = values_GxN if of_GxN is None else of_GxN
    sigma = deviation(of_GxN, scored_GxN, axes, ddof)
    return jnp.where(has_spread(of_GxN, scored_GxN, axes), values_GxN / (sigma + eps), 0)
