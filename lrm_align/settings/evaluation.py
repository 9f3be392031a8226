"""Measurements: before and after of a run, and the benchmarks of `lrm_align.evaluate`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.judging import GuardSettings
from lrm_align.settings.sampling import SampleSettings
from lrm_align.settings.setting import Call, factory, section, setting


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """`config.evaluate`: what a run measures before and after."""

    factory: str = factory("", "an evaluation", Call(positional=1, more=("before_args", "table_args")))
    args: Mapping[str, Any] = setting({}, "of the evaluation")
    before_args: Mapping[str, Any] = setting({}, "laid over them before training")
    table_args: Mapping[str, Any] = setting({}, "laid over them where there are several seeds")
    temperature: float = setting(0.6, "of answers; 0 takes the likeliest token", least=0)
    top_p: float = setting(0.95, "of answers; 1: off", above=0, most=1)
    top_k: int = setting(0, "of answers; 0: off", least=0)
    guard: GuardSettings | None = section("that measures, where the run's own acts on the model")


@dataclasses.dataclass(frozen=True)
class SetSettings:
    """An entry of `config.sets`."""

    benchmark: str = setting("", "a name of evals.benchmarks; or give factory and aim")
    path: str = setting("", "a file or a datasets id; empty: the published one")
    subset: str = setting("", "of a datasets id")
    split: str = setting("", "of a datasets id")
    wording: str = setting("", "of the question; empty: the benchmark's")
    limit: int = setting(0, "prompts at most, drawn by the seed; 0: all", least=0)
    samples: int = setting(0, "answers of a prompt; 0: as in the paper", least=0)
    aim: str = setting("", "harmful, benign or answer; empty: the benchmark's")
    factory: str = factory("", "returns prompts", Call(given=("seed",)))
    args: Mapping[str, Any] = setting({}, "of the factory")
    sampling: SampleSettings | None = setting(None, "what differs from config.sample", partial=True)


@dataclasses.dataclass(frozen=True)
class PerplexitySettings:
    """`config.perplexity`: trace sets under a frozen model."""

    sets: Mapping[str, str] = setting({}, "directories of trace shards by name")
    span: str = setting(
        "completion", "the tokens that are scored", among=("completion", "sampled", "thought", "answer", "all")
    )
    context: str = setting("prompt", "what they are scored after", among=("stored", "prompt"))
    row_length: int = setting(4096, "of a packed row", least=2, unit="tokens")
    rows: int = setting(8, "of a forward pass", least=1)
    chunk: int = setting(512, "whose logits are in memory at a time; 0: all", least=0, unit="positions")


@dataclasses.dataclass(frozen=True)
class DepthSettings:
    """`config.depth`: attack success by the number of early steps that may be steered."""

    steps: tuple[int, ...] = setting((), "numbers of early steps; empty: no such stage")
    args: Mapping[str, Any] = setting({}, "laid over config.evaluate.args")


@dataclasses.dataclass(frozen=True)
class CostSettings:
    """`config.cost`: what a defence costs on prompts that need none."""

    factory: str = factory("", "returns prompts; empty: no such stage", Call(given=("seed",)))
    args: Mapping[str, Any] = setting({}, "of the factory")
    rounds: int = setting(3, "in which the two take turns", least=1)


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """An entry of `config.methods`: a method of a comparison."""

    config: str = setting("", "its config, FILE.py[:PRESET]")
    changes: Mapping[str, Any] = setting({}, "laid over its config")
