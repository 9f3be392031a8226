"""How completions are drawn, and the sizes of the engine that draws them."""

import dataclasses

from lrm_align.settings.setting import setting

_THREADS = "the draws of a sample depend on its own key alone"


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """What an engine needs to know: `config.rl.sampling`, and the passes of `config.sample`."""

    temperature: float = setting(1.0, "divides the logits; 0 takes the likeliest token", least=0)
    top_p: float = setting(1.0, "the likeliest tokens of this probability stay; 1: all", above=0, most=1)
    top_k: int = setting(0, "the likeliest tokens that stay; 0: all", least=0)
    min_p: float = setting(0.0, "tokens stay that have this share of the likeliest one's probability", least=0, most=1)
    max_new_tokens: int = setting(4096, "of a completion", least=1, unit="tokens")
    slots: int = setting(64, "completions that are decoded at a time", least=1)
    lanes: int = setting(1, "threads that decode", least=1, neutral=_THREADS)
    max_length: int = setting(8192, "of prompt and completion", least=2, unit="positions")
    steps_per_call: int = setting(64, "between two looks of the host", least=1, unit="tokens")


@dataclasses.dataclass(frozen=True)
class SampleSettings(DrawSettings):
    """`config.sample`, and what `config.NAME.sampling` lays over it for a pass of its own."""

    samples: int = setting(1, "completions of a prompt", least=1)
    shard_traces: int = setting(256, "in a shard; at most these are lost to a kill", least=1, unit="traces")
    steering: str = setting("none", "what harmful prompts are told, a name of recipes.steering.WORDINGS")
    teacher: str = setting("", "directory of another model that samples; empty: the one that trains")
    written_refusal: str = setting("", "a sentence that stands for the answers to harmful prompts; empty: sampled ones")


@dataclasses.dataclass(frozen=True)
class PassSettings:
    """A section that draws as `config.sample` does, but for what it lays over it."""

    sampling: SampleSettings | None = setting(None, "what differs from config.sample", partial=True)
