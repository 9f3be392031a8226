"""Trying a transform that a config names, before anything slow: a mistake in it ends in one line."""

from typing import Any

import jax
import numpy as np

from lrm_align.advantages.chain import check_result
from lrm_align.advantages.group import Group, Transform
from lrm_align.errors import UserError, attributed


def check_transform(
    name: str,
    transform: Transform,
    *,
    mode_names: tuple[str, ...] = (),
    class_names: tuple[str, ...] = (),
    parts: int = 0,
    kl: bool = False,
) -> None:
    """Traces a transform on 2 groups of 4 samples with the columns that a run will have; nothing is computed.

    Args:
      name: the import path of the factory that made it.
      transform: what the factory returned.
      mode_names, class_names: of the groups; without names there is no such column.
      parts: of the reward; 0 for no such column.
      kl: whether the groups have one.

    >>> check_transform("mine:advantage", lambda advantage_GxN, group: advantage_GxN.mean(axis=1))
    Traceback (most recent call last):
        ...
    lrm_align.errors.UserError: mine:advantage: its transform gave the shape (2,); wanted floating point of the rewards'
    shape (2, 4)

    Raises:
      UserError: it names the factory, what was found and what is wanted.
    """
    if not callable(transform):
        raise UserError(
            f"{name} returned {type(transform).__name__} {transform!r}; wanted a function (advantage_GxN, group) -> "
            "advantage_GxN, such as advantages.chain(…)"
        )
    G, N = 2, 4
    columns: dict[str, Any] = {
        "reward_GxN": np.zeros((G, N), np.float32),
        "valid_GxN": np.ones((G, N), np.float32),
        "length_GxN": np.ones((G, N), np.int32),
        "parts_GxNxK": np.zeros((G, N, parts), np.float32) if parts else None,
        "mode_GxN": np.zeros((G, N), np.int32) if mode_names else None,
        "class_G": np.zeros(G, np.int32) if class_names else None,
        "kl_GxN": np.zeros((G, N), np.float32) if kl else None,
    }
    group = Group(**columns, mode_names=mode_names, class_names=class_names)
    with attributed(name, "a pure function (advantage_GxN, group) -> advantage_GxN of arrays"):
        given = jax.eval_shape(transform, group.reward_GxN, group)
    check_result(f"{name}: its transform", given, (G, N))
