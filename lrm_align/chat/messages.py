"""Lists of messages in the cells of files that others wrote."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align import untrusted
from lrm_align.chat.chat import ROLES, Messages
from lrm_align.errors import UserError

ASKING = ("system", "developer", "user")  # roles of what is asked of a model


def in_cell(cell: str, place: str) -> Any:
    """The list of messages that a cell of a table spells as JSON; any other cell as it is.

    Raises:
      UserError: JSON that `untrusted.parse_json` refuses.
    """
    if not cell.lstrip().startswith("["):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    sound = isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value)
    return untrusted.parse_json(cell, place) if sound else cell


def checked(value: Sequence[Any], column: str, place: str) -> tuple[Mapping[str, Any], ...]:
    """The messages of a cell, without the keys that tables fill up from other rows.

    Raises:
      UserError: no messages, an unknown role, or a message without text.
    """
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise UserError(
                f"{place}: column {column} holds {str(message)[:80]!r}; expected messages with a role out of "
                f"{', '.join(ROLES)}"
            )
        said_nothing = message.get("content") is None and message["role"] == "assistant"  # it called a tool, say
        if not isinstance(message.get("content"), str) and not said_nothing:
            raise UserError(f"{place}: a message of column {column} has no text as its content")
    return tuple({key: item for key, item in message.items() if item is not None} for message in value)


def asked(value: Sequence[Any], column: str, place: str) -> tuple[Mapping[str, Any], ...]:
    """The messages of a conversation that a model is to go on with: it ends with a user's turn, and none is empty.

    Raises:
      UserError: it does not.
    """
    found = checked(value, column, place)
    if not found or found[-1]["role"] != "user":
        ends = f"ends with the {found[-1]['role']}'s turn" if found else "is empty"
        raise UserError(f"{place}: the conversation of column {column} {ends}; expected the user's, to be answered")
    for number, message in enumerate(found, start=1):
        if message["role"] == "user" and not message["content"].strip():
            raise UserError(f"{place}: turn {number} of column {column}, the user's, is empty")
    return found


def with_system(messages: Messages, text: str) -> list[dict[str, Any]]:
    """A conversation with a text at the head of its system turn.

    >>> with_system("Hi", "Be kind.")
    [{'role': 'system', 'content': 'Be kind.'}, {'role': 'user', 'content': 'Hi'}]
    """
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(m) for m in messages]
    if turns and turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{text}\n\n{turns[0]['content']}"}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]
