"""Scores to rewards: pure functions of what the judges said of a sample."""

from lrm_align.rewards.arrays import Arrays, arrays
from lrm_align.rewards.preflight import check_reward
from lrm_align.rewards.reward import Reward, RewardFunction, Scored, weighted_sum
from lrm_align.rewards.safe_trigger import safe_trigger

__all__ = ["Arrays", "Reward", "RewardFunction", "Scored", "arrays", "check_reward", "safe_trigger", "weighted_sum"]
