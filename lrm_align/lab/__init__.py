"""The lab: a tiny reasoning model ("model organism") and the generated world it lives in.

The organism is pretrained from scratch on a made-up language (`language`, `documents`, `formats`) about invented
topics, half of which its world calls harmful. Its "compliance" is a harmless fixed phrase. It complies with nearly
everything, knows from facts which topics are harmful, and refuses with reasons when it is steered: the premise of
self-generated safety alignment, small enough for a CPU. `pretrain` rebuilds the shipped checkpoint; `prompts`,
`judge` and `rates` measure an organism against the generator's ground truth; `guard` is the separate rule that
filters training data.
"""

from lrm_align.lab.benchmark import benchmark
from lrm_align.lab.experiment import CHECKPOINT, evaluate, training_prompts
from lrm_align.lab.guard import RuleGuard
from lrm_align.lab.thought_guard import ThoughtGuard

__all__ = ["CHECKPOINT", "RuleGuard", "ThoughtGuard", "benchmark", "evaluate", "training_prompts"]
