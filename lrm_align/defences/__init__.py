"""Defences at inference: what the model is shown instead of a prompt, and what steps into its decoding.

Every one is a factory, (chat, guard, arguments) -> `Defence`, that a config or a server names by import path.
"""

from lrm_align.defences.defence import Defence, none
from lrm_align.defences.less_think import less_think
from lrm_align.defences.more_think import more_think
from lrm_align.defences.safe_path import safe_path
from lrm_align.defences.safe_remind import safe_remind
from lrm_align.defences.safe_think import safe_think
from lrm_align.defences.self_reminder import self_reminder
from lrm_align.defences.thinking_intervention import thinking_intervention
from lrm_align.defences.zero_think import zero_think

__all__ = [
    "Defence",
    "less_think",
    "more_think",
    "none",
    "safe_path",
    "safe_remind",
    "safe_think",
    "self_reminder",
    "thinking_intervention",
    "zero_think",
]
