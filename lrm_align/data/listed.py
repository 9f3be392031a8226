"""Shapes in which a cell holds a list of turns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align import untrusted
from lrm_align.data.columns import Row, text
from lrm_align.data.conversation import Message, checked
from lrm_align.errors import UserError
from lrm_align.untrusted import json_type, shown

# Who speaks in ShareGPT's exports and in what followed them.
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "system": "system", "tool": "tool", "observation": "tool",
}  # fmt: skip


def prompt_completion(row: Row, place: str) -> tuple[Message, ...]:
    """A prompt and a completion, each text or messages, as TRL has them."""
    asked = _cell(row["prompt"])
    answered = _cell(row["completion"])
    before = ({"role": "user", "content": asked},) if isinstance(asked, str) else checked(asked, place, "prompt")
    if isinstance(answered, str):
        return (*before, {"role": "assistant", "content": answered})
    return (*before, *checked(answered, place, "completion"))


def messages(row: Row, place: str) -> tuple[Message, ...]:
    """Messages with role and content."""
    return checked(_cell(row["messages"]), place, "messages")


def sharegpt(row: Row, place: str) -> tuple[Message, ...]:
    """ShareGPT's conversations of {"from", "value"}; a `system` column comes first."""
    said = _cell(row["conversations"])
    if not isinstance(said, Sequence) or isinstance(said, str):
        raise UserError(f"data: {place}: column conversations holds {json_type(said)}; expected a list of turns")
    if said and isinstance(said[0], Mapping) and "role" in said[0]:
        return checked(said, place, "conversations")
    turns: list[dict[str, Any]] = []
    for number, turn in enumerate(said, start=1):
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        if not isinstance(speaker, str) or speaker not in SPEAKERS:
            raise UserError(
                f"data: {place}: turn {number} of column conversations is from {shown(speaker)}; expected one of "
                f"{', '.join(SPEAKERS)}"
            )
        turns.append({"role": SPEAKERS[speaker], "content": turn.get("value")})
    system = text(row, "system", place, optional=True)
    first = [{"role": "system", "content": system}] if system and turns and turns[0]["role"] != "system" else []
    return checked([*first, *turns], place, "conversations")


def tools(row: Row, place: str) -> tuple[Mapping[str, Any], ...]:
    """Definitions of functions, in a column `tools`; empty where there are none."""
    found = _cell(row.get("tools"))
    if found is None or found == "":
        return ()
    if not isinstance(found, Sequence) or not all(isinstance(one, Mapping) for one in found):
        raise UserError(f"data: {place}: column tools holds {json_type(found)}; expected a list of objects")
    return tuple(found)


def _cell(value: Any) -> Any:
    """The list that a cell of a table spells as JSON; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value  # a prompt may begin like this, too
    turns = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    spelled = turns and any({"role", "from", "function", "name"} & set(one) for one in found)
    return untrusted.parse_json(value, "data: a cell") if spelled else value
