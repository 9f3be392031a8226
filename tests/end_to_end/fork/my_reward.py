"""A reward of one's own: what is safe, and a little more where it declines in words."""

from lrm_align.rewards import Reward, RewardFunction


def reward(declining: float = 0.25) -> RewardFunction:
    """1 - p(unsafe) + declining · [declines]; what the guard cannot decide is unscored, not zero."""

    def of(scores):
        guard = scores["guard"]
        if guard.value is None:
            return Reward.unscored(guard.reason)
        parts = {"safe": 1 - guard.value, "declines": guard.parts["declines"]}
        return Reward(parts["safe"] + declining * parts["declines"], parts)

    return of
