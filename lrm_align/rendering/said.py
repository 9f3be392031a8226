"""Whether a rendered text holds what the messages say, and what of it the template left out on its way."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

THINK_CLOSE = "</think>"
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
BLANKS, THOUGHT = "outer blanks", "thoughts"  # what a template may leave out; it is counted


class LostError(Exception):
    """A message is not in the rendering as it was said.

    Attributes:
      number: of the message, from 0.
      text: what is not there.
    """

    def __init__(self, number: int, text: str):
        super().__init__(number, text)
        self.number, self.text = number, text


def left_out(rendered: str, messages: Sequence[Mapping[str, Any]], trims: Collection[str]) -> dict[str, int]:
    """Counts of what the template left out, by kind: outer blanks, and thoughts of earlier turns.

    Raises:
      LostError: of any other change.

    Args:
      rendered: by the template.
      messages: what it was given; contents are text.
      trims: roles whose outer blanks the template is known to drop.
    """
    counts: dict[str, int] = {}
    for number, message in enumerate(messages):
        text = message.get("content") or ""
        role = message.get("role")
        if role == "assistant":
            thought, text = _thought(message, text, rendered)
            if thought.strip() and thought.strip() not in rendered:
                counts[THOUGHT] = counts.get(THOUGHT, 0) + 1
        if text in rendered:
            continue
        bare = text.strip()
        if (role in trims or role == "assistant") and bare in rendered:
            counts[BLANKS] = counts.get(BLANKS, 0) + 1
        elif not (role in ("tool", "ipython") and _spelled(text, rendered)):
            raise LostError(number, text)
    return counts


def _thought(message: Mapping[str, Any], text: str, rendered: str) -> tuple[str, str]:
    """(thought, answer) of an assistant's message; a template may have its own marks around them."""
    apart = next((message[name] for name in THOUGHTS if isinstance(message.get(name), str)), "")
    if THINK_CLOSE not in text or text in rendered:
        return apart, text
    inside, _, answer = text.rpartition(THINK_CLOSE)
    return apart or inside.partition("<think>")[2] or inside, answer.strip("\n")


def _spelled(text: str, rendered: str) -> bool:
    """Whether it stands there as a JSON string: results of tools often do."""
    return any(json.dumps(text, ensure_ascii=plain)[1:-1] in rendered for plain in (False, True))
