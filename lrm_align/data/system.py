"""What becomes of a system turn where the model's template takes none."""

from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.chat import Chat
from lrm_align.data.conversation import Message
from lrm_align.errors import UserError

TEMPLATE, USER, DROP = "template", "user", "drop"
CHOICES = (TEMPLATE, USER, DROP)
_PROBE = "a rule that nobody else has"


def has_place(chat: Chat) -> bool:
    """Whether the template writes what a system turn says."""
    turns = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "a question"}]
    try:
        return _PROBE in chat.prompt_text(turns)
    except UserError:  # it says that it takes none
        return False


def placed(messages: Sequence[Message], wanted: str) -> tuple[Mapping[str, Any], ...]:
    """The messages with the system turn where it shall stand.

    >>> placed([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}], USER)
    ({'role': 'user', 'content': 'Be brief.\\n\\nWhy?'},)

    Args:
      messages: of a conversation with a user's turn.
      wanted: TEMPLATE (as it is), USER (in front of what the user says first), or DROP.
    """
    if wanted == TEMPLATE or messages[0]["role"] != "system":
        return tuple(messages)
    said, rest = messages[0]["content"], list(messages[1:])
    if wanted == USER:
        first = next(number for number, message in enumerate(rest) if message["role"] == "user")
        rest[first] = {**rest[first], "content": f"{said}\n\n{rest[first]['content']}"}
    return tuple(rest)


def check(chat: Chat, count: int, total: int, wanted: str) -> None:
    """Refuses system turns that a template does not take.

    Raises:
      UserError: so many of the examples have one, the template takes none, and nobody said what to do.
    """
    if count and wanted == TEMPLATE and not has_place(chat):
        raise UserError(
            f"data: {count} of {total} examples have a system turn, and the {chat.template.name} takes none; set "
            f"config.data.system to {USER!r} (in front of the user's first words) or {DROP!r}"
        )
