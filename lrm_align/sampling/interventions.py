"""The one hook in the decoding loop: inject tokens, rewind and go on, or stop.

An intervention says when it wants to be asked. The engine decodes on the device until one of these moments comes for a
slot, then asks on the host; the other slots go on.

    class Budget:
        ask_at = (TokenCount(512),)

        def on_tokens(self, trace, state):
            return Inject(END_OF_THINKING)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lrm_align.provenance import Source


@dataclasses.dataclass(frozen=True)
class Start:
    """Asks before the first token."""


@dataclasses.dataclass(frozen=True)
class TokenCount:
    """Asks when the completion reaches `count` tokens; again when it does so after a rewind. `wait`: `StepBoundary`."""

    count: int
    wait: bool = True


@dataclasses.dataclass(frozen=True)
class StepBoundary:
    """Asks after each sampled token that is one of `ids`; one of them may be a stop id.

    Where the answer is mostly `Continue`, don't `wait` for it: the slot goes on decoding, and what it has decoded
    beyond the moment is taken back where the answer is another. The same tokens come out.
    """

    ids: tuple[int, ...]
    wait: bool = True


@dataclasses.dataclass(frozen=True)
class StopString:
    """Asks when a sampled token completes the sequence `ids`."""

    ids: tuple[int, ...]


Trigger = Start | TokenCount | StepBoundary | StopString


@dataclasses.dataclass(frozen=True)
class Continue:
    """Goes on as if nothing had been asked; without `again` nothing is asked any more about this sample."""

    again: bool = True


@dataclasses.dataclass(frozen=True)
class Inject:
    """Appends tokens that were not sampled, then goes on. They count towards the limit and have no log-probability."""

    ids: Sequence[int]
    source: Source = Source.INJECTED


@dataclasses.dataclass(frozen=True)
class Stop:
    """Ends the completion as it stands, with stop reason "intervention"."""


@dataclasses.dataclass(frozen=True)
class Rewind:
    """Drops all but the first `to` tokens of the completion, then acts. What is drawn again is drawn afresh."""

    to: int
    then: "Inject | Continue | Stop" = Continue()


Action = Continue | Inject | Rewind | Stop


class Moment(NamedTuple):
    """The trace so far, as an intervention sees it.

    Attributes:
      prompt_id: name of the prompt.
      sample: number of the sample.
      prompt_ids: (P,) int32.
      ids: (C,) int32 completion so far.
      source: (C,) uint8.
      sampler_logp: (C,) float32.
      model_logp: (C,) float32.
      entropy: (C,) float32, of the untempered distribution that a token was drawn from, in nats; NaN where not sampled.
      trigger: why it is asked.
      meta: of the request.
    """

    prompt_id: str
    sample: int
    prompt_ids: np.ndarray
    ids: np.ndarray
    source: np.ndarray
    sampler_logp: np.ndarray
    model_logp: np.ndarray
    entropy: np.ndarray
    trigger: Trigger
    meta: Mapping[str, Any] = MappingProxyType({})


@runtime_checkable
class Intervention(Protocol):
    """What may act on a completion while it grows. Where an engine has lanes, several threads ask at a time.

    Attributes:
      ask_at: when to ask.
    """

    @property
    def ask_at(self) -> tuple[Trigger, ...]:
        """The moments."""

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Decides what happens next.

        Args:
          trace: prompt and completion so far.
          state: kept for this sample from one call to the next; empty at first, returned with the completion.
        """
        ...


@runtime_checkable
class BatchIntervention(Intervention, Protocol):
    """One that decides about all slots that ask at a time, at less cost than one by one: where a guard is a model."""

    def on_batch(self, traces: Sequence[Moment], states: Sequence[dict[str, Any]]) -> Sequence[Action]:
        """An action for each; what `on_tokens` would give. Samples share nothing but the cost."""
        ...


@dataclasses.dataclass(frozen=True)
class ForcedPrefix:
    """Every completion begins with these tokens: a primer, or the opening of a thought."""

    ids: tuple[int, ...]
    source: Source = Source.INJECTED
    ask_at: tuple[Trigger, ...] = (Start(),)

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Injects the prefix at the start."""
        return Inject(self.ids, self.source)
