"""Guards, filters, judges and rewards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.sampling import DrawSettings, SampleSettings
from lrm_align.settings.setting import Call, factory, section, setting

PARTS = ("all", "answer", "thought")


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """`config.guard`."""

    factory: str = factory("lrm_align.scoring.llama_guard:load", "returns a guard")
    args: Mapping[str, Any] = setting({}, "of the factory")
    sharded: bool = setting(True, "whether it is handed the run's mesh", neutral="it moves scores by rounding alone")
    threshold: float = setting(0.5, "p(unsafe) from which on a response is unsafe", least=0, most=1)
    devices: int = setting(0, "of its own, the last ones; 0: the model's", least=0, neutral="scores move by rounding")


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """`config.filter`: which sampled traces are trained on."""

    factory: str = factory("lrm_align.recipes.filtering:closed_and_safe", "returns the rule")
    args: Mapping[str, Any] = setting({}, "of the factory")
    whole_groups: bool = setting(False, "keep a prompt if all of its samples are kept, and one of them")
    strip_thinking: bool = setting(False, "train on the answers to harmful prompts without their thoughts")
    guarded: bool = setting(False, "whether the guard has a say")


@dataclasses.dataclass(frozen=True)
class MadeSettings:
    """A factory with its arguments: `config.helpful`, a judge of RAPO."""

    factory: str = factory("", "returns it", Call(positional=1))
    args: Mapping[str, Any] = setting({}, "of the factory")


@dataclasses.dataclass(frozen=True)
class RewardSettings:
    """`config.reward`."""

    factory: str = factory("lrm_align.rewards:weighted_sum", "returns the reward function")
    args: Mapping[str, Any] = setting({}, "of the factory")
    parts: tuple[str, ...] = setting((), "of RAPO's reward that are computed")
    delta: float = setting(1.0, "least difference of reward between the sides of a pair", least=0)


@dataclasses.dataclass(frozen=True)
class RefusalSettings:
    """`config.refusal`: who says what is a refusal."""

    factory: str = factory("lrm_align.scoring.refusals:Keywords", 'returns the rule; "guard": the guard says')
    args: Mapping[str, Any] = setting({}, "of the factory")
    part: str = setting("answer", "what of a response is shown", among=PARTS)


@dataclasses.dataclass(frozen=True)
class AnswersSettings:
    """`config.answers`: the comparison of final answers."""

    seconds: float = setting(5.0, "for one comparison", above=0, unit="seconds")
    workers: int = setting(4, "processes that compare", least=1, neutral="each comparison is one process' own")


@dataclasses.dataclass(frozen=True)
class AnswerSettings:
    """`config.answer`: the reward for exact answers."""

    pattern: str = setting("", "regular expression whose group is the answer; empty: as the evaluator reads it")
    truncated: str = setting("wrong", "a completion cut at its limit", among=("wrong", "masked"))


@dataclasses.dataclass(frozen=True)
class JudgeSettings(DrawSettings):
    """`config.judge`: the frozen model as judge; what of it is read depends on the method."""

    thinking: bool = setting(False, "whether it thinks before its verdict")
    risk: MadeSettings | None = section("RAPO: judges the depth of a safety analysis")
    harmful: MadeSettings | None = section("RAPO: judges answers to harmful prompts")
    benign: MadeSettings | None = section("RAPO: judges answers to benign prompts")
    hints: bool = setting(True, "RAPO: whether the judge is told how many sentences it sees", source="2602.04224, code")
    truncated: str = setting("scored", "RAPO: a completion cut at its limit", among=("scored", "masked"))
    questions: Mapping[str, Mapping[str, Any]] = setting({}, "Safe Trigger: template and patterns of each indicator")
    f_safe_by: str = setting("model", "Safe Trigger: who says that an answer is safe", among=("model", "guard"))
    sampling: SampleSettings | None = setting(None, "what differs from config.sample", partial=True)
