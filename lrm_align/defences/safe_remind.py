"""SafeRemind: a reminder where the model is about to be certain."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.steps import closing_tokens, line_ends
from lrm_align.defences.thought import needs_thoughts
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Action, Continue, Inject, Moment, Rewind, StepBoundary, Trigger
from lrm_align.scoring import Guard

# In our words after arXiv 2601.03662, whose reminder goes on with a list of hazards.
REMINDER = "Wait, could this request do harm? If it could, I must not help with it. Let me look at it again.\n"


@dataclasses.dataclass(frozen=True)
class SafeRemind:
    """Puts in a reminder before a line that begins with a token of low entropy.

    The entropy before a token is known once it is drawn, and a slot is looked at when a line ends. So the line is taken
    back, and with the reminder before it drawn again: what comes out is what asking before the line would give.

    Attributes:
      ask_at: ends of lines, and of the thought.
      words: ids of the reminder.
      entropy: in nats, of the next token; below it a decision is being locked.
      times: reminders at most.
      lines: ids of tokens that end a line.
      closed: ids to whether a thought ends in them.
    """

    ask_at: tuple[Trigger, ...]
    words: tuple[int, ...]
    entropy: float
    times: int
    lines: frozenset[int]
    closed: Callable[[Sequence[int]], bool]

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Looks at how the line began that ends here."""
        closed = self.closed(trace.ids.tolist())
        if not closed and int(trace.ids[-1]) not in self.lines:
            return Continue()  # no end of anything: a token that could have completed one
        state["asked"] = state.get("asked", 0) + 1
        begin = state.get("begin")
        if begin is not None and float(trace.entropy[begin]) < self.entropy:
            state["injected"] = state.get("injected", 0) + 1
            again = state["injected"] < self.times
            # The line that is drawn in its place begins behind the words.
            state["begin"] = begin + len(self.words) if again else None
            return Rewind(begin, Inject(self.words))
        done = state.get("injected", 0) >= self.times or closed
        state["begin"] = None if done else int(trace.ids.size)
        return Continue(again=not done)

    def settled(self, length: int, state: dict[str, Any]) -> int:
        """What stays, for those who show a completion as it grows: all but the line at hand."""
        begin = state.get("begin")
        return length if begin is None else begin


def safe_remind(
    chat: Chat, guard: Callable[[], Guard], *, text: str = REMINDER, entropy: float = 0.5, times: int = 1
) -> Defence:
    """A reminder at a line of the thought whose first token has an entropy below a threshold (arXiv 2601.03662).

    A line is looked at that has an end of a line before it in the completion, as in the paper's code.

    Args:
      chat: of the model.
      guard: not used.
      text: the reminder.
      entropy: nats; the paper's code has 0.5.
      times: reminders at most; the paper's code has 1.

    Raises:
      UserError: a value out of its range.
    """
    del guard
    if not entropy > 0:
        raise UserError(f"config.defence.args.entropy is {entropy}; it must be above 0")
    if times < 1:
        raise UserError(f"config.defence.args.times is {times}; it must be at least 1")
    needs_thoughts(chat)
    lines, closing = line_ends(chat), closing_tokens(chat)
    intervention = SafeRemind(
        (StepBoundary(tuple(dict.fromkeys((*lines, *closing))), wait=False),),
        tuple(chat.encode_plain(text)),
        entropy,
        times,
        frozenset(lines),
        lambda ids: bool(chat.thought_ends(ids)),
    )
    return Defence("safe_remind", intervention=intervention)
