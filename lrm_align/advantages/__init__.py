"""Rewards to advantages: credit is a chain of pure functions of the samples of each prompt.

>>> from lrm_align.advantages import chain, clip, group_center, group_scale, inverse_frequency
>>> credit = chain(group_center(), group_scale(), inverse_frequency("consult"), clip(5.0))
"""

from lrm_align.advantages.baselines import batch_center, group_center, leave_one_out
from lrm_align.advantages.broadcast import broadcast
from lrm_align.advantages.chain import chain
from lrm_align.advantages.frequency import inverse_frequency, mode_balanced_center, mode_standardize
from lrm_align.advantages.group import Group, Transform, transform
from lrm_align.advantages.preflight import check_transform
from lrm_align.advantages.presets import dr_grpo, gdpo, grpo, ifpo, rloo
from lrm_align.advantages.report import check, keep, metrics
from lrm_align.advantages.scales import batch_scale, group_scale, standardized_parts
from lrm_align.advantages.shaping import clip, kl_in_reward, soft_overlong

__all__ = [
    "Group",
    "Transform",
    "batch_center",
    "batch_scale",
    "broadcast",
    "chain",
    "check",
    "check_transform",
    "clip",
    "dr_grpo",
    "gdpo",
    "group_center",
    "group_scale",
    "grpo",
    "ifpo",
    "inverse_frequency",
    "keep",
    "kl_in_reward",
    "leave_one_out",
    "metrics",
    "mode_balanced_center",
    "mode_standardize",
    "rloo",
    "soft_overlong",
    "standardized_parts",
    "transform",
]
