"""Tool calls in a conversation: how a tool is offered, how a call is written and read, how its result is put back.

Two forms. `TemplateForm` is the model's own, as Qwen3's template writes it: the call ends the assistant's turn, and the
result comes as a turn that the template renders. `TextForm` is for models without one, such as R1-Distill: the call is
plain text inside the turn, `<rules>a, b</rules>`, and so is the result; the turn goes on.

What a tool says is encoded as plain text: control tokens in it stay text, as they do in what users say.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

from lrm_align.chat.chat import Chat, Messages
from lrm_align.chat.messages import with_system
from lrm_align.chat.thinking import THINK_CLOSE, THINK_OPEN
from lrm_align.errors import UserError, one_line

OPEN, CLOSE = "<tool_call>", "</tool_call>"
CUT = "\n[cut]"  # ends a result that was too long
LONGEST_CALL = 4096  # characters; longer ones are not read

Ids = Sequence[int] | np.ndarray


class MalformedError(Exception):
    """A call that cannot be carried out; the message is what the model reads as its result."""


class Result(NamedTuple):
    """What a tool gives.

    Attributes:
      text: what the model reads.
      record: plain values for the trace.
    """

    text: str
    record: Mapping[str, Any] = MappingProxyType({})


class Tool(NamedTuple):
    """A pure function that a model may call.

    Attributes:
      name: what calls name.
      call: arguments to a result; raises `MalformedError` for arguments that it does not take.
      description: what the model is told about it.
      parameters: JSON schema of the arguments.
      argument: the list of names that the plain-text form fills in.
    """

    name: str
    call: Callable[[Mapping[str, Any]], Result]
    description: str = ""
    parameters: Mapping[str, Any] = MappingProxyType({})
    argument: str = ""

    def schema(self) -> dict[str, Any]:
        """The tool as chat templates take it.

        >>> Tool("rules", Result).schema()
        {'type': 'function', 'function': {'name': 'rules', 'parameters': {}}}
        """
        described = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": dict(self.parameters)}}


class Call(NamedTuple):
    """A call that was read: the tool's name, and arguments that are plain JSON."""

    name: str
    arguments: Mapping[str, Any]


class Form(Protocol):
    """How calls and results are written.

    Attributes:
      strings: token sequences that close a call.
      boundary: ids that may close one; `read` decides.
    """

    strings: tuple[tuple[int, ...], ...]
    boundary: tuple[int, ...]

    def prompt(self, messages: Messages) -> list[int]:
        """Ids of a prompt that offers the tool."""
        ...

    def read(self, turn: Ids) -> Call | None:
        """The call that the ids end with; None where they end with none. Raises `MalformedError`."""
        ...

    def result(self, text: str, turn: Ids) -> list[int]:
        """Ids that follow a call: the result, and what opens the assistant's next words."""
        ...


class TemplateForm:
    """The form of the model's chat template: `<tool_call>` JSON `</tool_call>`, as control tokens.

    What is put back is all that the template itself writes between the end of a call and the assistant's next word, the
    end of the calling turn included: nobody samples it, so a call is answered before the turn could end.

    Args:
      chat: of the model.
      tool: the tool.
      offer: a system text that offers the tool instead of the template's own `tools=`.

    Raises:
      UserError: the tokenizer lacks the control tokens, or the template does not render tools, calls or results.
    """

    def __init__(self, chat: Chat, tool: Tool, offer: str = ""):
        missing = [token for token in (OPEN, CLOSE) if token not in chat.encoder.control]
        if missing:
            raise UserError(
                f"tool calls: the tokenizer has no control token {' or '.join(missing)}; use the form 'text', which "
                "needs none"
            )
        self._chat, self._tool, self._offer = chat, tool, offer
        self._open, self._close = (chat.encoder.control[token] for token in (OPEN, CLOSE))
        self._thinking = tuple(chat.encoder.control.get(token) for token in (THINK_OPEN, THINK_CLOSE))
        self.strings: tuple[tuple[int, ...], ...] = ((self._close,),)
        self.boundary: tuple[int, ...] = chat.stop_ids
        self._rendered = functools.lru_cache(maxsize=1024)(self._render)  # the same few results again and again
        probe = self.result("probe", [self._close])
        if "probe" not in chat.decode(probe) or self._close in probe:
            raise UserError(
                f"tool calls: {chat.template.name} does not render a tool's result after a call; use the form 'text'"
            )
        if not offer and self.prompt("probe") == chat.prompt_ids("probe"):
            raise UserError(
                f"tool calls: {chat.template.name} does not offer tools; give a system text that does "
                "(config.tool.offer)"
            )

    def prompt(self, messages: Messages) -> list[int]:
        """Ids of a prompt that offers the tool, by `tools=` or by the system text."""
        if not self._offer:
            return self._chat.prompt_ids(messages, tools=[self._tool.schema()])
        return self._chat.prompt_ids(with_system(messages, self._offer))

    def read(self, turn: Ids) -> Call | None:
        """The call that the assistant's turn ends with.

        Args:
          turn: ids since the last tool result.

        Raises:
          MalformedError: a call that is none, stands inside an open thought, or is left open at the end of the turn.
        """
        ids = [int(id) for id in turn]
        start = next((i for i in range(len(ids) - 1, -1, -1) if ids[i] == self._open), -1)
        if not ids or ids[-1] != self._close:
            if ids and ids[-1] in self.boundary and start >= 0 and self._close not in ids[start:]:
                raise MalformedError(f"the call was not closed by {CLOSE}")
            return None
        if start < 0:
            raise MalformedError(f"{CLOSE} without {OPEN}")
        opened = self._thinking[:1] if self._chat.think_open_in_prompt else ()
        marks = [*opened, *(id for id in ids if id in self._thinking)]
        if marks and marks[-1] == self._thinking[0]:
            raise MalformedError(f"a call inside the thinking; close it by {THINK_CLOSE} first")
        return parse_json(self._chat.decode(ids[start + 1 : -1]))

    def result(self, text: str, turn: Ids) -> list[int]:
        """What the template writes after a call: the end of the turn where it was not sampled, the result, the opening.

        Args:
          text: of the result.
          turn: ids since the last result.
        """
        rest = self._rendered(text)
        ended = bool(len(turn)) and bool(rest) and int(turn[-1]) == rest[0] and rest[0] in self.boundary
        return list(rest[1:] if ended else rest)

    def _render(self, text: str) -> tuple[int, ...]:
        call = {"type": "function", "function": {"name": self._tool.name, "arguments": {}}}
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "probe"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": self._tool.name, "content": text},
        ]
        ids = self._chat.prompt_ids(messages)
        if self._close not in ids:
            raise UserError(f"tool calls: {self._chat.template.name} does not render calls; use the form 'text'")
        # Nothing that the tool said can be the control token, so the last one is the template's own.
        return tuple(ids[len(ids) - ids[::-1].index(self._close) :])


class TextForm:
    """A call as plain text in the running turn: `<NAME>a, b</NAME>`, the names of one list argument; the turn goes on.

    The result follows as `<NAME_result>…</NAME_result>`, in a thought as well as after it. A call that is still open at
    the end of the turn is none.

    Args:
      chat: of the model.
      tool: the tool.
      offer: the system text that offers it; a plain one is written where empty.
    """

    def __init__(self, chat: Chat, tool: Tool, offer: str = ""):
        self._chat, self._tool = chat, tool
        self._open, self._close = f"<{tool.name}>", f"</{tool.name}>"
        self._offer = offer or (
            f"{tool.description or 'You may look up the rules.'} To do so, write {self._open}name, name{self._close} "
            f"anywhere in your thinking: the text follows in <{tool.name}_result>, and you go on from there."
        )
        self.strings: tuple[tuple[int, ...], ...] = ()
        self.boundary: tuple[int, ...] = _closing_tokens(chat, self._close)

    def prompt(self, messages: Messages) -> list[int]:
        """Ids of a prompt that offers the tool in a system turn."""
        return self._chat.prompt_ids(with_system(messages, self._offer))

    def read(self, turn: Ids) -> Call | None:
        """The call that the text since the last result ends with, up to white space.

        Raises:
          MalformedError: it has no beginning, or is too long.
        """
        text = self._chat.decode([int(id) for id in turn]).rstrip()
        if not text.endswith(self._close):
            return None
        _, opened, body = text.removesuffix(self._close).rpartition(self._open)
        if not opened:
            raise MalformedError(f"{self._close} without {self._open}")
        if len(body) > LONGEST_CALL:
            raise MalformedError(f"a call of {len(body)} characters; at most {LONGEST_CALL} are read")
        names = [name.strip() for name in body.replace("\n", ",").split(",")]
        arguments = {self._tool.argument: [name for name in names if name]} if self._tool.argument else {}
        return Call(self._tool.name, arguments)

    def result(self, text: str, turn: Ids) -> list[int]:
        """The result as text."""
        return self._chat.encode_plain(f"\n<{self._tool.name}_result>\n{text}\n</{self._tool.name}_result>\n")


FORMS: dict[str, Callable[[Chat, Tool, str], Form]] = {"template": TemplateForm, "text": TextForm}


def make_form(name: str, chat: Chat, tool: Tool, offer: str = "") -> Form:
    """The form of a config: "template" or "text".

    Raises:
      UserError: an unknown one, or one that the model's template does not have.
    """
    if name not in FORMS:
        raise UserError(f"tool calls: form is {name!r}; there are {', '.join(FORMS)}")
    return FORMS[name](chat, tool, offer)


def parse_json(body: str) -> Call:
    """A call as Qwen3 writes it, read strictly: one JSON object of a name and an object of arguments.

    >>> parse_json('{"name": "rules", "arguments": {"categories": ["fraud"]}}')
    Call(name='rules', arguments={'categories': ['fraud']})
    >>> parse_json('{"name": "rules"}')
    Traceback (most recent call last):
        ...
    lrm_align.chat.tool_calls.MalformedError: a call has a name and arguments, found name

    Raises:
      MalformedError: anything else, a key that stands twice, a number that JSON has not, text that cannot be written.
    """
    if len(body) > LONGEST_CALL:
        raise MalformedError(f"a call of {len(body)} characters; at most {LONGEST_CALL} are read")
    try:
        found = json.loads(body, object_pairs_hook=_object, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise MalformedError(f"the call is not JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, lone surrogates, deep nesting
        raise MalformedError(f"the call cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"}:
        names = ", ".join(sorted(found)[:5]) if isinstance(found, dict) else f"a {type(found).__name__}"
        raise MalformedError(f"a call has a name and arguments, found {one_line(names)[:80] or 'nothing'}")
    if not isinstance(found["name"], str) or not isinstance(found["arguments"], dict):
        raise MalformedError("the name of a call is text, its arguments are an object")
    return Call(found["name"], found["arguments"])


def shortened(chat: Chat, text: str, limit: int) -> tuple[str, bool]:
    """A text of at most `limit` tokens, and whether it was cut; a cut one ends with `CUT`."""
    ids = chat.encode_plain(text)
    if len(ids) <= limit:
        return text, False
    room = limit - len(chat.encode_plain(CUT))
    while True:
        # Cutting may split a character, and what is left may have other tokens than before.
        head = chat.decode(ids[: max(room, 0)]).rstrip("\ufffd")
        if room <= 0 or len(chat.encode_plain(head + CUT)) <= limit:
            return head + CUT, True
        room -= 1


def _closing_tokens(chat: Chat, closing: str) -> tuple[int, ...]:
    """Tokens that can end the closing string: its tails, alone or joined with white space."""
    control = set(chat.encoder.control.values())
    found = []
    for token, id in chat.tokenizer.get_vocab().items():
        if closing[-1] not in token or id in control:
            continue
        text = chat.decode([id]).rstrip()
        if text and (closing.endswith(text) or text.endswith(closing)):
            found.append(id)
    return tuple(sorted(found))


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise MalformedError("a key of the call stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise MalformedError(f"the call is not JSON: {name} is no value of it")
