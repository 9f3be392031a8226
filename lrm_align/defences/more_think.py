"""MoreThink: a thought that would end is made to go on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lrm_align.chat import Chat
from lrm_align.chat.thinking import THINK_CLOSE
from lrm_align.defences.defence import Defence
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Action, Continue, Inject, Moment, Rewind, StopString, Trigger
from lrm_align.scoring import Guard


@dataclasses.dataclass(frozen=True)
class MoreThink:
    """Puts words in place of the end of a thought.

    Attributes:
      end: ids of the end of a thought.
      words: ids put in its place.
      times: how often at most.
      limit: tokens of a thought after which it may end.
    """

    end: tuple[int, ...]
    words: tuple[int, ...]
    times: int
    limit: int

    @property
    def ask_at(self) -> tuple[Trigger, ...]:
        """The end of the thought."""
        return (StopString(self.end),)

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Words instead of an early end."""
        forced = state.setdefault("forced", 0)
        if forced >= self.times or trace.ids.size >= self.limit:
            return Continue(again=False)
        state["forced"] = forced + 1
        begin = trace.ids.size - len(self.end)
        assert np.array_equal(trace.ids[begin:], self.end)
        return Rewind(begin, Inject(self.words))

    def settled(self, length: int, state: dict[str, Any]) -> int:
        """What stays, for those who show a completion as it grows: all but what may be the beginning of the end."""
        del state
        return length - (len(self.end) - 1)


def more_think(
    chat: Chat, guard: Callable[[], Guard], *, text: str = "Wait", times: int = 10, limit: int = 10_000
) -> Defence:
    """The end of the thought is replaced by a word, up to `times` times or `limit` tokens (arXiv 2502.12025).

    Args:
      chat: of the model.
      guard: not used.
      text: what stands in place of the end.
      times: forcings; the paper's code has 10.
      limit: tokens; the paper's code has 10,000.

    Raises:
      UserError: numbers below 1.
    """
    del guard
    for name, value in (("times", times), ("limit", limit)):
        if value < 1:
            raise UserError(f"config.defence.args.{name} is {value}; it must be at least 1")
    end = tuple(chat.encode_trusted(THINK_CLOSE))
    return Defence("more_think", intervention=MoreThink(end, tuple(chat.encode_plain(text)), times, limit))
