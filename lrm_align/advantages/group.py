"""What credit is assigned from: the samples of each prompt with their rewards, and whose reward counts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.errors import UserError

Array = Any  # a NumPy array on the host, a jax.Array in a compiled function


@dataclasses.dataclass(frozen=True)
class Group:
    """N samples of each of G prompts.

    A sample is *scored* where `valid_GxN` says so and its reward (and its `kl_GxN`, where there is one) is finite. All
    others are outside of every statistic and get the advantage 0. What says nothing gives 0 as well, never NaN: a
    wholly unscored group, one with a single scored sample, one without spread. `metrics` counts each of these;
    `check` refuses non-finite rewards on the host.

    Attributes:
      reward_GxN: rewards; anything where unscored.
      valid_GxN: 1 where the sample has a reward; None where all have one.
      parts_GxNxK: what the rewards were made of; a part that is not finite counts as missing.
      mode_GxN: int, what the sample did, an index into `mode_names`; -1 where it did none of these.
      length_GxN: sampled tokens.
      kl_GxN: log π - log π_ref of the sampled tokens, summed over the sample, in nats.
      class_G: int, the prompt's class, an index into `class_names`; -1 for none.
      mode_names, class_names: static.
    """

    reward_GxN: Array
    valid_GxN: Array | None = None
    parts_GxNxK: Array | None = None
    mode_GxN: Array | None = None
    length_GxN: Array | None = None
    kl_GxN: Array | None = None
    class_G: Array | None = None
    mode_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> "Group":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def scored(self) -> jax.Array:
        """Which samples take part, GxN bool.

        >>> import numpy as np
        >>> print(Group(np.array([[1.0, 2.0, float("nan")]]), valid_GxN=np.array([[1, 0, 1]])).scored)
        [[ True False False]]
        """
        scored_GxN = jnp.isfinite(jnp.asarray(self.reward_GxN))
        if self.valid_GxN is not None:
            scored_GxN &= jnp.asarray(self.valid_GxN) > 0
        if self.kl_GxN is not None:
            scored_GxN &= jnp.isfinite(jnp.asarray(self.kl_GxN))
        return scored_GxN


jax.tree_util.register_dataclass(
    Group,
    data_fields=[field.name for field in dataclasses.fields(Group) if not field.name.endswith("_names")],
    meta_fields=["mode_names", "class_names"],
)

Transform = Callable[[Any, Group], jax.Array]  # (advantage_GxN, group) -> advantage_GxN
_Apply = Callable[[jax.Array, jax.Array, Group], jax.Array]


def transform(name: str, apply: _Apply, *, needs: Sequence[str] = (), least: int = 1) -> Transform:
    """A transform from a function of clean values: shapes are checked, and unscored samples read and give 0.

    Args:
      name: of the transform, for messages.
      apply: (advantage_GxN, scored_GxN, group) -> advantage_GxN; it sees floating point values, 0 where unscored.
      needs: columns of the group that must be there.
      least: samples that a group must have for the transform to mean anything.

    Returns:
      (advantage_GxN, group) -> advantage_GxN. It raises a UserError that names the transform, what it found and what it
      wanted, for shapes that do not fit, for absent columns, and for groups of fewer than `least` samples.
    """

    def checked(advantage_GxN: Any, group: Group) -> jax.Array:
        G, N = check_shapes(name, advantage_GxN, group)
        for column in needs:
            if vars(group)[column] is None:
                raise UserError(f"{name}: needs group.{column}, found None; the group has {', '.join(_columns(group))}")
        if least > N:
            raise UserError(
                f"{name}: a group of {N} has no statistics; found rewards of shape {(G, N)}, wanted N ≥ {least}"
            )
        values_GxN = jnp.asarray(advantage_GxN)
        values_GxN = values_GxN.astype(jnp.promote_types(values_GxN.dtype, jnp.float32))
        scored_GxN = group.scored
        given_GxN = apply(jnp.where(scored_GxN, values_GxN, 0), scored_GxN, group)
        return jnp.where(scored_GxN, given_GxN, 0)

    checked.__name__ = checked.__qualname__ = name
    return checked


def check_shapes(name: str, advantage_GxN: Any, group: Group) -> tuple[int, int]:
    """(G, N).

    Raises:
      UserError: the rewards are not groups × samples, or another column or the advantage does not fit them.
    """
    found = jnp.shape(group.reward_GxN)
    if len(found) != 2:
        raise UserError(f"{name}: group.reward_GxN has the shape {found}; wanted (groups, samples)")
    wanted = dict.fromkeys(("valid_GxN", "mode_GxN", "length_GxN", "kl_GxN"), found) | {"class_G": found[:1]}
    for column, shape in wanted.items():
        value = vars(group)[column]
        if value is not None and jnp.shape(value) != shape:
            raise UserError(f"{name}: group.{column} has the shape {jnp.shape(value)}; wanted {shape}, as the rewards")
    if group.parts_GxNxK is not None and (
        len(jnp.shape(group.parts_GxNxK)) != 3 or jnp.shape(group.parts_GxNxK)[:2] != found
    ):
        raise UserError(
            f"{name}: group.parts_GxNxK has the shape {jnp.shape(group.parts_GxNxK)}; wanted {(*found, 'K')}"
        )
    if jnp.shape(advantage_GxN) != found:
        raise UserError(
            f"{name}: the advantage has the shape {jnp.shape(advantage_GxN)}; wanted {found}, as the rewards"
        )
    return found


def _columns(group: Group) -> list[str]:
    return [name for name, value in vars(group).items() if value is not None and not name.endswith("_names")]
