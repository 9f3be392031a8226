"""What guards and judges take beside their model: `config.guard.args`."""

import dataclasses

from lrm_align.settings.judging import PARTS
from lrm_align.settings.setting import setting


@dataclasses.dataclass(frozen=True)
class Shown:
    """What of a response a guard is shown, and which verdicts count."""

    part: str = setting("all", "what of a response is judged", among=PARTS)
    opened: bool = setting(False, "whether the student's prompt ends inside the thought, so that responses start there")
    least_mass: float = setting(0.5, "p of the verdict's words, below which it is none", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class FrameOptions(Shown):
    """Of Llama-Guard-3."""

    max_length: int = setting(20_480, "the longest prompt of the guard, tokens", least=1)
    batch_tokens: int = setting(65_536, "the most that one forward pass holds", least=1)


@dataclasses.dataclass(frozen=True)
class WildGuardOptions(FrameOptions):
    """Of WildGuard."""

    max_length: int = setting(16_384, "the longest prompt of the guard, tokens", least=1)
    batch_tokens: int = setting(32_768, "the most that one forward pass holds", least=1)


@dataclasses.dataclass(frozen=True)
class Qwen3GuardOptions(FrameOptions):
    """Of Qwen3Guard-Gen."""

    rule: str = setting("strict", "what controversial counts as: unsafe, or safe", among=("strict", "loose"))


@dataclasses.dataclass(frozen=True)
class PromptedOptions(Shown):
    """Of a chat model that is asked a question."""

    question: str = setting("harm", "what it is asked", among=("harm", "refusal"))
    max_length: int = setting(4_096, "the longest prompt of the judge, tokens", least=1)
    batch_tokens: int = setting(4_096, "the most that one forward pass holds", least=1)


@dataclasses.dataclass(frozen=True)
class EndpointOptions(Shown):
    """Of a chat model behind an address."""

    question: str = setting("harm", "what it is asked", among=("harm", "refusal"))
    longest: int = setting(12_000, "characters of a response; a longer one loses its middle", least=2)
    workers: int = setting(8, "requests at a time", least=1, neutral="the order of requests decides nothing")
    seconds: float = setting(60.0, "that a request may take", above=0, neutral="a request that fails is unscored")
    tries: int = setting(4, "of each request", least=1, neutral="a request that fails is unscored")
