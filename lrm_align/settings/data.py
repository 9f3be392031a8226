"""Where prompts and pairs come from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.setting import Call, factory, setting


@dataclasses.dataclass(frozen=True)
class PromptsSettings:
    """`config.prompts` and its like: a factory of prompts, and what they must not overlap with."""

    factory: str = factory("lrm_align.chat:load_sources", "returns prompts", Call(given=("seed",)))
    args: Mapping[str, Any] = setting({}, "of the factory")
    against: Mapping[str, Mapping[str, Any]] = setting({}, "evaluation sets by name, whose prompts are taken out")


@dataclasses.dataclass(frozen=True)
class PairsSettings:
    """`config.pairs`: preference pairs."""

    factory: str = factory("lrm_align.recipes.pairing:read", "returns pairs", Call(positional=1, given=("seed",)))
    args: Mapping[str, Any] = setting({}, "of the factory")


FORMATS = ("auto", "messages", "sharegpt", "prompt_completion", "alpaca", "star1", "safechain")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """`config.data`: examples that others wrote, for supervised fine-tuning."""

    path: str = setting("", "a file (JSONL, JSON, CSV, TSV, Parquet) or a `datasets` id")
    format: str = setting("auto", "shape of the rows; auto: by their columns", among=FORMATS)
    split: str = setting("train", "of a `datasets` id")
    subset: str = setting("", "the config of a `datasets` id that has several")
    columns: Mapping[str, str] = setting({}, "the shape's names of columns to the file's, where they differ")
    limit: int = setting(0, "examples, drawn by the seed; 0 takes all", least=0)
    turns: str = setting("all", "which of the assistant's turns are trained on", among=("all", "last"))
    thoughts: str = setting(
        "template", "where thoughts go: the template's place, text in the answer, or away",
        among=("template", "text", "drop"),
    )  # fmt: skip
    system: str = setting(
        "template", "where system turns go: the template's place, in front of the user's first words, or away",
        among=("template", "user", "drop"),
    )  # fmt: skip
    template_kwargs: Mapping[str, Any] = setting({}, "for the template, such as enable_thinking")
    validation: float = setting(0.0, "share of the prompts that is held out; 0: none", least=0, below=1)
    validate_every: int = setting(0, "between losses on what is held out; 0: at the beginning and the end", least=0,
                                  unit="steps")  # fmt: skip
    keep_best: bool = setting(False, "whether the weights with the lowest held-out loss are written out, not the last")


@dataclasses.dataclass(frozen=True)
class WeakenSettings:
    """`config.weaken`: what is done to a model before it learns."""

    factory: str = factory("", "returns a function of weights; empty: nothing")
    args: Mapping[str, Any] = setting({}, "of the factory")
