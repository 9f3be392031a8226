"""From the rewards of samples to the arrays that advantages are computed from."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrm_align.errors import UserError
from lrm_align.rewards.reward import Reward


class Arrays(NamedTuple):
    """Columns of an `advantages.Group`, under the same names.

    Attributes:
      reward_GxN: float32; 0 where unscored.
      valid_GxN: float32, 1 where scored.
      parts_GxNxK: float32, in the order of the names asked for, NaN where missing; None without names.
    """

    reward_GxN: np.ndarray
    valid_GxN: np.ndarray
    parts_GxNxK: np.ndarray | None


def arrays(rewards: Sequence[Sequence[Reward]], parts: Sequence[str] = ()) -> Arrays:
    """Rewards of N samples of each of G prompts as columns.

    >>> found = arrays([[Reward(1.0, {"safe": 1.0}), Reward.unscored("no answer")]], parts=("safe",))
    >>> found.reward_GxN.tolist(), found.valid_GxN.tolist(), found.parts_GxNxK.tolist()
    ([[1.0, 0.0]], [[1.0, 0.0]], [[[1.0], [nan]]])

    Raises:
      UserError: groups of different sizes, or a reward that is not finite; it names the first.
    """
    sizes = {len(group) for group in rewards}
    if len(sizes) != 1:
        raise UserError(f"rewards: groups have {sorted(sizes)} samples; wanted one number of samples for all prompts")
    for g, group in enumerate(rewards):
        for n, reward in enumerate(group):
            if reward.value is not None and not math.isfinite(reward.value):
                raise UserError(
                    f"rewards: sample {n} of group {g} earns {reward.value}, of {dict(reward.parts)}; wanted a finite "
                    "number, or Reward.unscored(reason)"
                )
    value = np.array([[reward.value or 0.0 for reward in group] for group in rewards], np.float32)
    valid = np.array([[reward.value is not None for reward in group] for group in rewards], np.float32)
    columns = [[[reward.parts.get(part, math.nan) for part in parts] for reward in group] for group in rewards]
    return Arrays(value, valid, np.array(columns, np.float32) if parts else None)
