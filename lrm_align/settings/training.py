"""Supervised and preference training: data, batches, optimizer, checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.model import LoraSettings
from lrm_align.settings.setting import Call, factory, section, setting

OPTIMIZERS = ("adamw",)
SCHEDULES = ("cosine", "linear", "constant")
OVERLONG = ("drop", "truncate", "error")
MOST = 1_000_000  # in a batch: more is a slip
LOOK = "it decides what is written down of a run, not what is computed"
RESUME = "a run that goes on from any checkpoint ends in the same weights"


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """What a config says about the optimizer: AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a schedule.

    After a warm-up from zero the rate falls to zero at the last step ("cosine", "linear") or stays ("constant").
    """

    name: str = setting("adamw", "optimizer; without weight decay it is Adam", among=OPTIMIZERS)
    learning_rate: float = setting(1e-5, "peak of the learning rate", above=0, source="2601.23143, section 5.1")
    schedule: str = setting("cosine", "after the warm-up", among=SCHEDULES, source="2601.23143, section 5.1")
    warmup: float = setting(0.1, "share of the steps in which the rate grows from zero", least=0, below=1)
    b1: float = setting(0.9, "decay of the first moment", least=0, below=1, source="Adam")
    b2: float = setting(0.999, "decay of the second moment", least=0, below=1, source="Adam")
    eps: float = setting(1e-8, "added to the root of the second moment", above=0, source="Adam")
    weight_decay: float = setting(0.0, "decoupled; norms and biases are not decayed", least=0)
    clip: float = setting(1.0, "largest global norm of a gradient; 0: none", least=0)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """`config.train`."""

    objective: str = factory("lrm_align.objectives:sft", "the loss", Call("objective_args"))
    objective_args: Mapping[str, Any] = setting({}, "of the loss")
    batch_traces: int = setting(
        0, "of a step, pairs where pairs are trained on; or give batch_rows", least=0, most=MOST
    )
    batch_rows: int = setting(0, "packed rows of a step; or give batch_traces", least=0, most=MOST)
    row_length: int = setting(4096, "of a packed row", least=2, unit="tokens")
    max_segments: int = setting(16, "traces in a row at most", least=1)
    overlong: str = setting("drop", "what becomes of a trace that is longer than a row", among=OVERLONG)
    epochs: int = setting(1, "passes over the data", least=1)
    micro_batches: int = setting(1, "pieces of a batch whose gradients are added", least=1)
    chunk: int = setting(512, "whose logits are in memory at a time; 0: all", least=0, unit="positions")
    train_sources: tuple[str, ...] = setting(("SAMPLED",), "whose tokens are trained on, names of provenance.Source")
    optimizer: OptimizerSettings | None = section("of this training")
    checkpoint_every: int = setting(100, "between checkpoints; 0: none", least=0, unit="steps", neutral=RESUME)
    keep: int = setting(2, "checkpoints kept", least=1, neutral=RESUME)
    log_every: int = setting(10, "between rows of metrics", least=1, unit="steps", neutral=LOOK)


@dataclasses.dataclass(frozen=True)
class PreferenceSettings:
    """`config.preference`: the second training of Safe Trigger."""

    train: TrainingSettings | None = section("as config.train")
    lora: LoraSettings | None = section("as config.lora")


@dataclasses.dataclass(frozen=True)
class ReferenceSettings:
    """`config.reference` of preference training."""

    logp: str = setting("live", "whether its log-probabilities are computed in every step", among=("live", "stored"))
    path: str = setting("", "where stored ones lie; empty: a stage of the run makes them")
