"""One transform out of several."""

from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.advantages.group import Group, Transform, check_shapes
from lrm_align.errors import UserError


def chain(*transforms: Transform) -> Transform:
    """The transforms one after the other, each on what the one before gave; the first is given the rewards.

    A transform is any pure function (advantage_GxN, group) -> advantage_GxN: a fork's own stands beside ours. The order
    is the meaning: `inverse_frequency` weighs finished advantages, so it comes after the scaling.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group, clip, group_center, group_scale, inverse_frequency
    >>> credit = chain(group_center(), group_scale(), inverse_frequency("consult"), clip(1.5))
    >>> modes = {"mode_GxN": np.array([[1, 0, 0, 0]]), "mode_names": ("direct", "consult")}
    >>> group = Group(np.array([[3.0, 1.0, 1.0, -1.0]]), **modes)
    >>> print(np.asarray(credit(group.reward_GxN, group)).round(3))
    [[ 1.5    0.     0.    -0.816]]

    Raises:
      UserError: no transforms, or something that is not a function; in use, a transform that gives anything but
        floating point of the rewards' shape: the message names it, what it gave and what was wanted.
    """
    if not transforms:
        raise UserError("chain: there are no transforms; group_center() alone is Dr. GRPO")
    for number, function in enumerate(transforms, 1):
        if not callable(function):
            raise UserError(
                f"chain: transform {number} is {function!r}; wanted a function (advantage_GxN, group) -> advantage_GxN"
            )

    def chained(advantage_GxN: Any, group: Group) -> jax.Array:
        shape = check_shapes("chain", advantage_GxN, group)
        for number, function in enumerate(transforms, 1):
            advantage_GxN = function(advantage_GxN, group)
            check_result(f"chain: transform {number} ({full_name(function)})", advantage_GxN, shape)
        return advantage_GxN

    return chained


def check_result(name: str, advantage_GxN: Any, shape: tuple[int, ...]) -> None:
    """Refuses what is no advantage.

    Raises:
      UserError: not an array of floating point numbers of this shape.
    """
    if not hasattr(advantage_GxN, "shape") or not hasattr(advantage_GxN, "dtype"):
        found = f"a {type(advantage_GxN).__name__}"
    elif not jnp.issubdtype(advantage_GxN.dtype, jnp.floating):
        found = f"{advantage_GxN.dtype} of shape {advantage_GxN.shape}"
    elif advantage_GxN.shape != shape:
        found = f"the shape {advantage_GxN.shape}"
    else:
        return
    raise UserError(f"{name} gave {found}; wanted floating point of the rewards' shape {shape}")


def full_name(function: Transform) -> str:
    """package.module:name of a function, the way a config would name it.

    >>> full_name(chain)
    'lrm_align.advantages.chain:chain'
    """
    return f"{function.__module__}:{function.__qualname__}" if hasattr(function, "__qualname__") else repr(function)
