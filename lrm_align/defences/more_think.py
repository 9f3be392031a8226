"""MoreThink: a thought that would end is made to go on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.steps import closing_tokens
from lrm_align.defences.thought import needs_thoughts
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Action, Continue, Inject, Moment, Rewind, StepBoundary, Trigger
from lrm_align.scoring import Guard


@dataclasses.dataclass(frozen=True)
class MoreThink:
    """Puts words in place of the end of a thought.

    Attributes:
      closing: ids of tokens that may complete the mark of a thought's end.
      begin: ids to where the mark begins that the last of them completes; None where it completes none.
      longest: tokens that a mark may have.
      words: ids put in its place.
      times: how often at most.
      limit: tokens of a thought after which it may end.
    """

    closing: tuple[int, ...]
    begin: Callable[[Sequence[int]], int | None]
    longest: int
    words: tuple[int, ...]
    times: int
    limit: int

    @property
    def ask_at(self) -> tuple[Trigger, ...]:
        """The end of the thought."""
        return (StepBoundary(self.closing),)

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Words instead of an early end."""
        begin = self.begin(trace.ids.tolist())
        if begin is None:
            return Continue()
        forced = state.setdefault("forced", 0)
        state["asked"] = state.get("asked", 0) + 1
        if forced >= self.times or trace.ids.size >= self.limit:
            return Continue(again=False)
        state["forced"] = forced + 1
        return Rewind(begin, Inject(self.words))

    def settled(self, length: int, state: dict[str, Any]) -> int:
        """What stays, for those who show a completion as it grows: all but what may be the beginning of the end."""
        del state
        return max(0, length - (self.longest - 1))


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
    needs_thoughts(chat)
    mark = chat.thinking.close

    def begin(ids: Sequence[int]) -> int | None:
        if chat.thought_ends(ids)[-1:] != [len(ids)]:
            return None
        at = chat.decode(ids).rfind(mark)
        return next(n for n in range(len(ids) - 1, -1, -1) if len(chat.decode(ids[:n])) <= at)

    longest = 1 if mark in chat.encoder.control else len(mark)
    words = tuple(chat.encode_plain(text))
    return Defence("more_think", intervention=MoreThink(closing_tokens(chat), begin, longest, words, times, limit))
