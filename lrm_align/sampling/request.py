"""What is asked of the engine and what it gives back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_align import limits
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Intervention


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn, and how many.

    Attributes:
      temperature: divides the logits; 0 takes the likeliest token.
      top_k: the k likeliest tokens stay, with all that tie with the last of them; 0 keeps all.
      top_p: the smallest set of likeliest tokens with at least this probability stays; 1 keeps all.
      min_p: tokens stay that have at least this fraction of the likeliest token's probability; 0 keeps all.
      max_new_tokens: limit of the completion, injected tokens included; the engine's `max_length` limits it too.

    Raises:
      UserError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature, 0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k, self.top_k >= 0, "0 (off) or more"),
            "top_p": (self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1 (off)"),
            "min_p": (self.min_p, 0 <= self.min_p <= 1, "0 (off) to 1"),
            "max_new_tokens": (self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
        }
        for name, (value, sound, right) in ranges.items():
            if not sound:
                raise UserError(f"sampling: {name} is {value}; it must be {right}")


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """A prompt and the samples wanted of it.

    Attributes:
      prompt_id: name of the prompt; with the engine's seed and the sample's number it decides what is drawn.
      prompt_ids: (P,) token ids that the model reads.
      samples: how many samples, numbered from 0; or their numbers.
      params: how to draw.
      intervention: what may act on the decoding, or None.
      group_id: of the traces; the prompt id where empty.
      tags: of the traces.
      meta: of the traces; plain values.
    """

    prompt_id: str
    prompt_ids: Sequence[int] | np.ndarray
    samples: int | Sequence[int] = 1
    params: SamplingParams = SamplingParams()
    intervention: Intervention | None = None
    group_id: str = ""
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.samples, int):
            limits.count(self.samples, f"prompt {self.prompt_id!r}: samples")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the samples.

        >>> Request("a", [1, 2], samples=3).numbers
        (0, 1, 2)
        """
        return tuple(range(self.samples)) if isinstance(self.samples, int) else tuple(self.samples)


@dataclasses.dataclass(frozen=True, eq=False)
class Completion:
    """One finished sample of a request.

    Attributes:
      request: what was asked.
      sample: number of the sample.
      ids: (C,) int32 tokens, the stop token included.
      source: (C,) uint8 `Source` of each.
      sampler_logp: (C,) float32, under the distribution that was drawn from; NaN where not sampled.
      model_logp: (C,) float32, under the untempered model; NaN where not sampled.
      stop_reason: "stop", "length" or "intervention".
      state: what the intervention kept about this sample.
    """

    request: Request
    sample: int
    ids: np.ndarray
    source: np.ndarray
    sampler_logp: np.ndarray
    model_logp: np.ndarray
    stop_reason: str
    state: dict[str, Any]
