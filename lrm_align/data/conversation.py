"""A conversation to learn from, whatever shape it was stored in, and why one cannot be learned from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.chat.chat import ROLES, THOUGHTS
from lrm_align.chat.thinking import THINK_CLOSE, THINK_OPEN
from lrm_align.errors import UserError
from lrm_align.untrusted import json_type, shown

Message = Mapping[str, Any]
NO_ANSWER, NO_PROMPT = "no assistant turn", "no user turn before the answer"
EMPTY_PROMPT, EMPTY_ANSWER = "empty prompt", "empty answer"
UNCLOSED, TWO_THOUGHTS = "thinking not closed", "two different thoughts"


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """One example.

    Attributes:
      id: tells it from the others of its file.
      place: where it stands, for messages to people.
      messages: its turns; an assistant's thought stands in `reasoning_content`, or in its content between the tags.
      tools: definitions of the functions that may be called; empty for none.
    """

    id: str
    place: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def prompt_hash(self) -> int:
        """64 bits of what comes before the first answer: the same wherever the example stands."""
        before = self.messages[: next(iter(answers(self.messages)), None)]
        said = [[message["role"], message.get("content")] for message in before]
        return int.from_bytes(hashlib.sha256(json.dumps(said).encode()).digest()[:8], "big")


def answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the assistant's turns."""
    return [number for number, message in enumerate(messages) if message["role"] == "assistant"]


def checked(messages: Any, place: str, column: str) -> tuple[Message, ...]:
    """Messages in the form of chat templates, without the empty keys that tables fill rows up with.

    Raises:
      UserError: no list of messages, an unknown role, content that is no text, a thought that is none.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise UserError(f"data: {place}: column {column} holds {json_type(messages)}; expected a list of messages")
    kept = []
    for number, message in enumerate(messages, start=1):
        where = f"data: {place}: message {number} of column {column}"
        if not isinstance(message, Mapping):
            raise UserError(f"{where} is {json_type(message)}; expected an object with role and content")
        message = {key: value for key, value in message.items() if value is not None}
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"{where} has role {shown(role)}; expected one of {', '.join(ROLES)}")
        if content is None and role == "assistant":
            message["content"] = content = ""
        if not isinstance(content, str):
            raise UserError(f"{where} has {json_type(content)} as its content; expected text")
        for name in THOUGHTS:
            if not isinstance(message.get(name, ""), str):
                raise UserError(f"{where} has {json_type(message[name])} as its {name}; expected text")
        kept.append(message)
    return tuple(kept)


def split(message: Message) -> tuple[str | None, str]:
    """(thought, answer) of an assistant's message; None for no thought. The opening tag may be missing.

    >>> split({"role": "assistant", "content": "<think>\\nTwo and two.\\n</think>\\n\\nFour."})
    ('Two and two.', 'Four.')
    """
    text = message["content"]
    for name in THOUGHTS:
        if message.get(name):
            return message[name].strip("\n"), text
    if THINK_CLOSE in text:
        thought, _, answer = text.rpartition(THINK_CLOSE)  # at the last one, as the judges do
        return thought.lstrip().removeprefix(THINK_OPEN).strip("\n"), answer.lstrip("\n")
    return None, text


def fault(messages: Sequence[Message]) -> str | None:
    """Why nothing can be learned from a conversation, as a reason to be counted; None where something can.

    >>> fault([{"role": "system", "content": "Be brief."}, {"role": "user", "content": " "},
    ...        {"role": "assistant", "content": "Yes?"}])
    'empty prompt'
    """
    numbers = answers(messages)
    if not numbers:
        return NO_ANSWER
    before = messages[: numbers[-1]]
    if not any(message["role"] == "user" for message in messages[: numbers[0]]):
        return NO_PROMPT
    if any(message["role"] == "user" and not message["content"].strip() for message in before):
        return EMPTY_PROMPT
    for number in numbers:
        message = messages[number]
        text = message["content"].lstrip()
        thoughts = {message[name] for name in THOUGHTS if message.get(name)}
        if text.startswith(THINK_OPEN) and THINK_CLOSE not in text:
            return UNCLOSED
        if len(thoughts) > 1 or (thoughts and THINK_CLOSE in text):
            return TWO_THOUGHTS
        if not split(message)[1].strip() and not message.get("tool_calls"):
            return EMPTY_ANSWER
    return None
