"""How much of a growing completion stays: what an intervention may still take back must not be shown to anyone."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lrm_align.sampling.interventions import Intervention, Start, TokenCount
from lrm_align.sampling.request import Request


@runtime_checkable
class Settling(Intervention, Protocol):
    """An intervention that rewinds, and knows how far at most."""

    def settled(self, length: int, state: dict[str, Any]) -> int:
        """The first tokens of a completion that it will never take back.

        Args:
          length: tokens so far.
          state: of the sample, as `on_tokens` left it.
        """
        ...


class Growing(NamedTuple):
    """A sample that goes on: its ids so far and their sources; the first `settled` will never be taken back."""

    request: Request
    sample: int
    ids: np.ndarray
    source: np.ndarray
    settled: int


def settled(request: Request, quiet: bool, length: int, state: dict[str, Any]) -> int:
    """The first tokens of a completion that no intervention will take back any more.

    Where an intervention doesn't say (`Settling`), nothing is settled as long as it may be asked again.

    Args:
      request: of the sample.
      quiet: its intervention will not be asked any more.
      length: tokens so far.
      state: of the sample.
    """
    intervention = request.intervention
    if intervention is None or quiet:
        return length
    if isinstance(intervention, Settling):
        return max(0, min(length, intervention.settled(length, state)))
    over = all(
        isinstance(trigger, Start) or (isinstance(trigger, TokenCount) and trigger.count <= length)
        for trigger in intervention.ask_at
    )
    return length if over else 0
