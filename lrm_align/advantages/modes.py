"""What the samples of a prompt did, and how often: modes, their counts and frequencies."""

import jax
import jax.numpy as jnp

from lrm_align.advantages.group import Group
from lrm_align.errors import UserError

SCOPES = ("group", "batch", "class")


def membership(name: str, mode: str | None, scored_GxN: jax.Array, group: Group) -> jax.Array:
    """(G, N, M) bool: which scored sample is of which mode; a sample without a mode is of none.

    Args:
      name: of the transform, for messages.
      mode: splits the samples into those of this mode and all others; None keeps every mode of the group apart.
      scored_GxN: which samples take part.
      group: with `mode_GxN`.

    Raises:
      UserError: the group has no such mode name, or no names at all.
    """
    if not group.mode_names or (mode is not None and mode not in group.mode_names):
        known = ", ".join(group.mode_names) or "none"
        wanted = "mode names" if mode is None else f"a mode {mode!r}"
        raise UserError(f"{name}: needs {wanted} among group.mode_names; found {known}")
    mode_GxN = jnp.asarray(group.mode_GxN)
    M = len(group.mode_names)
    one_hot_GxNxM = (mode_GxN[..., None] == jnp.arange(M)) & scored_GxN[..., None]
    if mode is None:
        return one_hot_GxNxM
    chosen_GxN = one_hot_GxNxM[..., group.mode_names.index(mode)]
    return jnp.stack([jnp.any(one_hot_GxNxM, axis=-1) & ~chosen_GxN, chosen_GxN], axis=-1)


def scope_matrix(name: str, scope: str, group: Group) -> jax.Array:
    """(G, G) bool: where the samples of the second group count towards the frequencies of the first.

    Args:
      name: of the transform, for messages.
      scope: "group", "batch" or "class": groups of the same `class_G`; a group without a class stands alone.
      group: with `class_G` where the scope is the class.

    Raises:
      UserError: an unknown scope, or no classes where they are asked for.
    """
    G = jnp.shape(group.reward_GxN)[0]
    if scope == "group":
        return jnp.eye(G, dtype=bool)
    if scope == "batch":
        return jnp.ones((G, G), bool)
    if scope != "class":
        raise UserError(f"{name}: scope is {scope!r}; supported are {', '.join(SCOPES)}")
    if group.class_G is None:
        raise UserError(f"{name}: scope 'class' needs group.class_G, found None")
    class_G = jnp.asarray(group.class_G)
    same_GxG = (class_G[:, None] == class_G) & (class_G >= 0)
    return same_GxG | jnp.eye(G, dtype=bool)


def counts(of_GxNxM: jax.Array, same_GxG: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """(G, M): samples of each mode in each group's scope, as numbers of a type that the advantage is divided in."""
    own_GxM = jnp.sum(of_GxNxM, axis=1).astype(dtype)
    return jnp.matmul(same_GxG.astype(dtype), own_GxM, precision=jax.lax.Precision.HIGHEST)
