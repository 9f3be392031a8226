"""`config.rl`: learning from rollouts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.model import LoraSettings
from lrm_align.settings.sampling import DrawSettings
from lrm_align.settings.setting import Call, factory, section, setting
from lrm_align.settings.training import LOOK, RESUME, OptimizerSettings


@dataclasses.dataclass(frozen=True)
class SyncSettings:
    """`config.rl.reference`: the reference of the KL follows the policy."""

    sync_every: int = setting(0, "between two moves of the reference; 0: it stays", least=0, unit="steps")
    mixup: float = setting(0.6, "share of the policy in a move", above=0, most=1, source="TRL")


@dataclasses.dataclass(frozen=True)
class OnlineSettings:
    """`config.rl`: one step samples groups with the policy, gives credit and updates."""

    steps: int = setting(100, "policies", least=1)
    groups: int = setting(16, "prompts of a step", least=1)
    samples: int = setting(8, "completions of a group", least=2)
    objective: str = factory("lrm_align.objectives:grpo", "the loss", Call("objective_args"))
    objective_args: Mapping[str, Any] = setting({}, "of the loss")
    advantage: str = factory("lrm_align.advantages:grpo", "the credit", Call("advantage_args"))
    advantage_args: Mapping[str, Any] = setting({}, "of the credit")
    inner_epochs: int = setting(1, "passes over the groups of a step", least=1)
    minibatches: int = setting(1, "updates of a pass", least=1)
    old_logp: str = setting(
        "recomputed", "whose log-probabilities ratios are taken against", among=("recomputed", "sampler", "none")
    )
    kl_in_reward: bool = setting(False, "whether rewards are less the KL to the reference")
    max_refills: int = setting(0, "groups that are drawn anew for those without spread; 0: none", least=0)
    reference: SyncSettings | None = section("of the KL")
    sampling: DrawSettings | None = section("of rollouts")
    row_length: int = setting(4096, "of a packed row", least=2, unit="tokens")
    piece_rows: int = setting(8, "of a piece whose gradients are added", least=1, unit="rows")
    max_segments: int = setting(8, "completions in a row at most", least=1)
    chunk: int = setting(512, "whose logits are in memory at a time; 0: all", least=0, unit="positions")
    lora: LoraSettings | None = section("adapters of the policy")
    optimizer: OptimizerSettings | None = section("of the policy")
    checkpoint_every: int = setting(10, "between checkpoints; 0: none", least=0, unit="steps", neutral=RESUME)
    keep: int = setting(2, "checkpoints kept", least=1, neutral=RESUME)
    log_every: int = setting(1, "between progress lines and kept rollouts", least=1, unit="steps", neutral=LOOK)
    keep_rollouts: int = setting(4, "rollouts kept to be read", least=0, neutral=LOOK)
    grade_seconds: float = setting(300.0, "after which a grader's scores are missing", above=0, unit="seconds")
    mode: str = setting("colocated", "samplers in the trainer's program or elsewhere", among=("colocated", "separate"))
    max_staleness: int = setting(0, "policies that a group may lie behind", least=0)
    sampler_count: int = setting(
        1, "samplers elsewhere", least=1, neutral="a group is decided by its number, not by who draws it"
    )
