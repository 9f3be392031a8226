"""The reward of Safe Trigger's second stage (Miao et al. 2026, arXiv 2606.16808, section 3.2)."""

import math
from collections.abc import Mapping

from lrm_align.errors import UserError
from lrm_align.rewards.reward import Reward, RewardFunction, Scored

F_SAFE, S_EXIST, T_FULL, S_FULL = "f_safe", "s_exist", "t_full", "s_full"
INDICATORS = (F_SAFE, S_EXIST, T_FULL, S_FULL)


def safe_trigger(w_a: float = 3.0, w_b: float = 2.0, w_c: float = 1.0) -> RewardFunction:
    """R = F·S·(T_full + S_full + w_a) + F·(1 − S)·w_b + (1 − F)·S·w_c; 0 for an unsafe answer without a block.

    Equations 1 and 3 to 10, over four indicators of 0 or 1: `f_safe`, the final answer is safe; `s_exist`, there is a
    whole block; `t_full`, the reasoning sufficiently considers safety; `s_full`, the block's analysis is comprehensive.
    The weights rank the classes A (safe, block), B (safe, no block), C (unsafe, block) and D (neither); within A the
    reasoning and the block count. The paper asks for w_a > w_b > w_c and prints no values: 3, 2, 1 are ours, and so is
    w_c > 0, which C before D needs.

    A sample whose reward depends on an unscored indicator is unscored; `t_full` and `s_full` matter in class A alone.

    >>> from lrm_align.scoring import Score
    >>> reward = safe_trigger()
    >>> def of(*bits):
    ...     return reward(dict(zip(INDICATORS, map(Score, bits)))).value
    >>> [of(*bits) for bits in ((1, 1, 1, 1), (1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 1), (0, 0, 1, 0))]
    [5.0, 3.0, 2.0, 1.0, 0.0]

    Args:
      w_a: a safe answer after a block, before what reasoning and block add.
      w_b: a safe answer without a block.
      w_c: an unsafe answer after a block.

    Raises:
      UserError: not w_a > w_b > w_c > 0.
    """
    if not (w_a > w_b > w_c > 0 and math.isfinite(w_a)):
        raise UserError(
            f"safe_trigger: the weights must be finite and w_a > w_b > w_c > 0, found {w_a:g}, {w_b:g}, {w_c:g}; else "
            "the preference A > B > C > D does not hold"
        )

    def reward(scores: Mapping[str, Scored]) -> Reward:
        parts: dict[str, float] = {}

        def known(*names: str) -> str | None:
            """Takes these indicators, or says which is unscored and why."""
            for name in names:
                value = scores[name].value
                if value is None:
                    return f"{name}: {scores[name].reason}"
                parts[name] = value
            return None

        missing = known(F_SAFE, S_EXIST)
        if missing is None and parts[F_SAFE] * parts[S_EXIST]:
            missing = known(T_FULL, S_FULL)
        if missing is not None:
            return Reward.unscored(missing)
        f, s = parts[F_SAFE], parts[S_EXIST]
        best = f * s * (parts.get(T_FULL, 0.0) + parts.get(S_FULL, 0.0) + w_a)
        return Reward(best + f * (1 - s) * w_b + (1 - f) * s * w_c, parts)

    return reward
