"""What a chat template does to messages, found by asking it: nothing that is said may get lost or changed.

A template is rendered on a few conversations whose messages hold every printable character, letters of several scripts,
blanks at both ends, and the template's own words. What a user or an assistant says must come out once, in order, as it
was said. Templates that read contents as a list of parts get them so; those that drop blanks at the ends (Llama 3) are
served, and the roles are named; anything else is refused.
"""

import itertools
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat.template import ExhaustedError
from lrm_align.errors import UserError

Write = Callable[..., str]  # (messages, add_generation_prompt=…) to text
_WORDS = re.compile(r"'((?:[^'\\\n]|\\.){1,40})'|\"((?:[^\"\\\n]|\\.){1,40})\"")
_MOST = 400  # words of a template that are tried


class Habits(NamedTuple):
    """See above.

    Attributes:
      parts: roles whose contents the template reads as a list of parts, {"type": "text", "text": …}.
      trims: roles whose outer blanks it drops.
    """

    parts: frozenset[str]
    trims: frozenset[str]


def as_parts(messages: Sequence[Mapping[str, Any]], roles: frozenset[str]) -> list[dict[str, Any]]:
    """Messages with the contents of some roles as parts.

    >>> as_parts([{"role": "user", "content": "Hi"}], frozenset({"user"}))
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}]
    """
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if message["role"] in roles and isinstance(message.get("content"), str)
        else dict(message)
        for message in messages
    ]


def find(write: Write, name: str, source: str) -> Habits:
    """The habits of a template.

    Args:
      write: renders messages.
      name: of the template, for messages.
      source: whose quoted words are tried as user text.

    Raises:
      UserError: it fails on a single user turn, or changes, repeats or leaves out what a user or an assistant says.
    """
    parts: set[str] = set()
    trims: set[str] = set()
    asked = [("user", 1)]
    first = _probe(write, asked, parts, trims, name, wanted={"user"})
    if isinstance(first, UserError):
        raise first
    # A refusal of longer conversations or of a role is the template's right, and is told when one is asked for.
    _probe(write, [("user", 1), ("assistant", 2), ("user", 3)], parts, trims, name, wanted={"user", "assistant"})
    _probe(write, [("user", 1), ("assistant", 2)], parts, trims, name, wanted={"user", "assistant"}, generate=False)
    _probe(write, [("system", 0), ("user", 1)], parts, trims, name, wanted={"user"})
    if {"user", "assistant"} <= parts:
        parts |= {"developer", "tool", "ipython"}  # a message of these that is lost is refused with its conversation
    for role in ("user", "assistant"):
        _probe_words(write, frozenset(parts), role, name, source)
    return Habits(frozenset(parts), frozenset(trims))


def end_of_turn(write: Write, control: re.Pattern[str], begin: str | None) -> tuple[str | None, str | None]:
    """(the control token that ends an assistant's turn, the one that opens turns); None where there is none.

    The end is what follows an assistant's words both at the end of a conversation and before the next turn, if it is
    not what the conversation opens with. Some write the next opener whatever they are asked, and no end.

    Args:
      write: renders messages.
      control: pattern of a control token.
      begin: the token that a conversation may begin with, once.
    """
    question, answer, more = "the question", "the answer", "one more question"
    turns = [_message("user", question), _message("assistant", answer), _message("user", more)]

    def tokens(text: str) -> list[str]:
        return [match.group(match.lastindex or 0) for match in control.finditer(text)]

    whole = _written(write, turns[:2], generate=False)
    if isinstance(whole, UserError):  # it wants no assistant's turn
        return None, None
    before, _, rest = whole.partition(question)
    between, _, after = rest.rpartition(answer)
    opened = tokens(before)
    # A token of the beginning stands once; ChatML's opener is declared as one all the same by some tokenizers.
    if opened[:1] == [begin] and begin not in [*opened[1:], *tokens(between)]:
        opened = opened[1:]
    opener = next(iter(opened), None)
    longer = _written(write, turns, generate=False)
    # Some want no third turn.
    middle = after if isinstance(longer, UserError) else longer.partition(answer)[2].partition(more)[0]
    end = next(iter(tokens(after)), None)
    if end is None or tokens(middle)[:1] != [end]:
        return None, opener
    # One token may begin the text and end each turn; an opener is followed by a role.
    if end == opener and (end != begin or after.partition(end)[2].strip()):
        return None, opener
    return end, opener


def _written(write: Write, messages: Sequence[Mapping[str, Any]], generate: bool) -> str | UserError:
    """What the template writes, or its refusal, which is its right."""
    try:
        return write(messages, add_generation_prompt=generate)
    except ExhaustedError:
        raise
    except UserError as error:
        return error


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _sentence(role: str, number: int) -> str:
    """Blanks at both ends, mixed case, every printable character, other scripts, more than a line."""
    body = f"Said by the {role.title()}, No. {number}: \t{string.printable[:95]}  two  blanks\n\n"
    return f"\n  {body}ÄÖß ñ Ω Ж 日本語 عربي 🙂 e\u0301 ﬁ «{number}» " + f"and so ON {number}, " * 40 + "the End.  \n"


def _probe(
    write: Write,
    asked: Sequence[tuple[str, int]],
    parts: set[str],
    trims: set[str],
    name: str,
    wanted: set[str],
    generate: bool = True,
) -> UserError | None:
    """Looks at one shape of conversation; adds to `parts` and `trims`. Returns the template's own refusal, if any."""
    messages = [_message(role, _sentence(role, number)) for role, number in asked]
    open_roles = sorted({role for role, _ in asked} - parts)
    fault: UserError | None = None
    lost_first: dict[str, tuple[str, str]] = {}
    # As text for all first, as parts for some next, the fewest first.
    for count in range(len(open_roles) + 1):
        for more in itertools.combinations(open_roles, count):
            text = _written(write, as_parts(messages, frozenset({*parts, *more})), generate)
            if isinstance(text, UserError):
                fault = fault or text
                continue
            lost, trimmed = _compare(text, messages)
            if not lost:
                parts |= set(more)
                trims |= trimmed
                return None
            lost_first = lost_first if count else lost
    role = next((role for role in lost_first if role in wanted), None)
    if role is None:  # refused, or a role that is told of when it is used
        return fault
    what, shown = lost_first[role]
    raise UserError(f"{name} {what} what the {role} says: {shown}; it cannot be used, give the model another template")


def _compare(text: str, messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """({role: (what happened, what vanished)}, roles whose outer blanks are gone)."""
    lost, trimmed = {}, set()
    places = []
    for message in messages:
        said, role = message["content"], message["role"]
        times = text.count(said)
        if not times:
            said = said.strip()
            times = text.count(said)
            if times:
                trimmed.add(role)
        if times == 1:
            places.append((role, text.index(said)))
        elif times:
            lost[role] = ("repeats", f"it writes it {times} times")
        else:
            lost[role] = _vanished(text, said, role)
    spoken = [place for role, place in places if role != "system"]
    if spoken != sorted(spoken):
        lost["user"] = ("reorders", "turns do not come out in their order")
    return lost, trimmed


def _vanished(text: str, said: str, role: str) -> tuple[str, str]:
    if f"by the {role}," not in text.lower():
        return "leaves out", f"{said[:40]!r} is not in the rendered text"
    words = [word for word in said.split() if word not in text]
    if said.casefold() in text.casefold():
        return "changes the case of", f"{words[0] if words else said[:40]!r} is not in the rendered text"
    size = next((n for n in range(len(said), 0, -1) if said[:n] in text), 0)
    return "changes", f"after {said[max(size - 20, 0) : size]!r} the part {said[size : size + 30]!r} vanished"


def _probe_words(write: Write, parts: frozenset[str], role: str, name: str, source: str) -> None:
    """A template that looks for words in what is said may cut them out: each of its own is said once."""
    found = [first or second for first, second in _WORDS.findall(source)]
    words = [word.replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"') for word in dict.fromkeys(found)]
    if role == "assistant":  # what marks a thought or a channel there is the model's own way to write them
        words = [word for word in words if not re.search(r"think|reason|[<\[]", word)]
    sentences = [f"Say {word} again, {word}and{word} too." for word in words[:_MOST]]

    def kept(said: str) -> bool | None:
        """None where the template refuses it, in words of its own."""
        turns = [_message("user", said if role == "user" else "Well?"), _message("assistant", said)]
        turns = turns[: 1 + (role == "assistant")]
        text = _written(write, as_parts(turns, parts), generate=role == "user")
        return None if isinstance(text, UserError) else said in text

    if kept(" ".join(sentences)):
        return
    for said, word in zip(sentences, words):
        if kept(said) is False:
            raise UserError(
                f"{name} changes what the {role} says: of {said!r} the part {word!r} vanished or changed; it cannot be "
                "used, give the model another template"
            )
