"""Where the steps of a thought end: at a blank line, at the end of a sentence, or after so many tokens."""

from collections.abc import Iterable, Sequence

from lrm_align.chat import Chat
from lrm_align.chat.thinking import THINK_CLOSE
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import StepBoundary, TokenCount, Trigger
from lrm_align.scoring.sentences import STOPS, WIDE

RULES = ("paragraph", "sentence", "tokens")


def boundaries(chat: Chat, rule: str, tokens: int, count: int) -> tuple[Trigger, ...]:
    """The moments at which a step may have ended.

    A thought's end is the end of a step, too. "sentence" and "paragraph" look at single tokens of the vocabulary: one
    that ends with a stop, or that holds a blank line.

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
    close = tuple(chat.encode_trusted(THINK_CLOSE))[-1:]
    if rule == "tokens":
        if tokens < 1:
            raise UserError(f"config.defence.args.step_tokens is {tokens}; it must be at least 1")
        return (*(TokenCount(tokens * (i + 1), wait=False) for i in range(count)), StepBoundary(close, wait=False))
    ends = _blank(_texts(chat)) if rule == "paragraph" else _stops(_texts(chat))
    return (StepBoundary((*ends, *close), wait=False),)


def _texts(chat: Chat) -> Sequence[tuple[int, str]]:
    control = set(chat.encoder.control.values())
    size = len(chat.tokenizer)
    return [(i, chat.decode([i])) for i in range(size) if i not in control]


def _blank(texts: Iterable[tuple[int, str]]) -> list[int]:
    return [i for i, text in texts if "\n\n" in text]


def _stops(texts: Iterable[tuple[int, str]]) -> list[int]:
    return [i for i, text in texts if text.rstrip(" \n").endswith(tuple(STOPS + WIDE)) or "\n" in text]
