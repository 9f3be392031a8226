"""Where the steps of a thought, or of an answer without one, end: at a blank line, a sentence, or after so many tokens.

A tokenizer may write a blank line, or the mark of a thought's end, in several tokens. So a slot is asked wherever a
token could complete one, and the text of the step decides.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import StepBoundary, TokenCount, Trigger
from lrm_align.scoring.sentences import STOPS, WIDE

RULES = ("paragraph", "sentence", "tokens")


class Steps(NamedTuple):
    """The moments at which a step may have ended, and whether it has.

    Attributes:
      ask_at: the moments.
      ended: (ids of the step so far, why it is asked) to whether the last of them ends it.
      closed: ids to whether a thought ends in them.
      rule: for people.
    """

    ask_at: tuple[Trigger, ...]
    ended: Callable[[Sequence[int], Trigger], bool]
    closed: Callable[[Sequence[int]], bool]
    rule: str


def steps(chat: Chat, rule: str, tokens: int, count: int) -> Steps:
    """The steps of a model's text.

    A thought's end is the end of a step, too. "paragraph": at a blank line, in however many tokens; "sentence": at a
    token that ends with a stop, or holds the end of a line.

    Args:
      chat: of the model.
      rule: one of `RULES`.
      tokens: length of a step where the rule is "tokens".
      count: steps that are watched.

    Raises:
      UserError: an unknown rule, or steps without tokens.
    """
    if rule not in RULES:
        raise UserError(f"config.defence.args.steps is {rule!r}; it must be one of {', '.join(RULES)}")
    if rule == "tokens" and tokens < 1:
        raise UserError(f"config.defence.args.step_tokens is {tokens}; it must be at least 1")
    texts, closing = _texts(chat), closing_tokens(chat)

    def closed(ids: Sequence[int]) -> bool:
        return bool(chat.thinking.thinks and chat.thought_ends(ids))

    if rule == "tokens":
        ask_at: tuple[Trigger, ...] = tuple(TokenCount(tokens * (i + 1), wait=False) for i in range(count))
        ask_at = (*ask_at, StepBoundary(closing, wait=False)) if closing else ask_at
        return Steps(ask_at, lambda ids, why: isinstance(why, TokenCount) or closed(ids), closed, rule)
    if rule == "paragraph":
        broken = [i for i, text in texts if "\n" in text]
        ask = StepBoundary(tuple(dict.fromkeys((*broken, *closing))), wait=False)
        return Steps((ask,), lambda ids, _: "\n\n" in chat.decode(ids).lstrip() or closed(ids), closed, rule)
    stops = {i for i, text in texts if text.rstrip(" \n").endswith(tuple(STOPS + WIDE)) or "\n" in text}
    ask = StepBoundary(tuple(dict.fromkeys((*sorted(stops), *closing))), wait=False)
    return Steps((ask,), lambda ids, _: ids[-1] in stops or closed(ids), closed, rule)


def closing_tokens(chat: Chat) -> tuple[int, ...]:
    """Ids of tokens that may complete the mark of a thought's end: the one, where it is one; none without thoughts."""
    if not chat.thinking.thinks:
        return ()
    one = chat.encoder.control.get(chat.thinking.close)
    return (one,) if one is not None else tuple(i for i, text in _texts(chat) if chat.thinking.close[-1] in text)


def line_ends(chat: Chat) -> tuple[int, ...]:
    """Ids of tokens that hold the end of a line."""
    return tuple(i for i, text in _texts(chat) if "\n" in text)


def _texts(chat: Chat) -> list[tuple[int, str]]:
    control = set(chat.encoder.control.values())
    return [(i, chat.decode([i])) for i in range(len(chat.tokenizer)) if i not in control]
