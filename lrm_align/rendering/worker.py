"""The process that renders: one JSON line in, one out, within limits of memory and time that nothing can lift.

It is started by `process` with a path of its own and imports jinja only. A template may do what it likes with the
processor time of one request: the kernel ends the process when that is over, whatever it is doing.
"""

import collections
import json
import re
import resource
import signal
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jinja2

from lrm_align.rendering.said import LostError, left_out
from lrm_align.rendering.sandbox import FAULTS, Sandbox
from lrm_align.rendering.tracking import Tracking
from lrm_align.rendering.user_text import Marker

MEMORY = 1 << 30  # bytes of address space: a template has no use for more
# Characters of a rendered text: a template's own words, and that much for each character it was given.
LONGEST, FACTOR = 1 << 18, 16
FAULT, LOST, UNFOLLOWED, SYNTAX = "fault", "lost", "unfollowed", "syntax"


class _Refused(Exception):  # noqa: N818, an answer and no error of ours
    """What is sent back instead of a result.

    Args:
      kind: one of the words above.
      told: what there is to say of it.
    """

    def __init__(self, kind: str, told: Any):
        super().__init__(kind, told)


class Template:
    """A template, compiled at once, and once more with marks when a conversation asks for it.

    Args:
      source: of the template.
      date: see `Sandbox`.
      control: strings that users must not forge.
      split: pattern that finds them in a rendered text, as the tokenizer would.
    """

    def __init__(self, source: str, date: str, control: Sequence[str], split: str):
        self._source, self._date, self._control = source, date, control
        self._split = re.compile(split)
        self._risky = _risky(control)
        try:
            self._plain = Sandbox(date).from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise _Refused(SYNTAX, f"{error} (line {error.lineno})") from None
        except FAULTS as error:  # a program too deep or too large to compile
            raise _Refused(SYNTAX, f"{type(error).__name__}: {error}") from None
        self._marker = Marker(control, source)
        self._marked: tuple[Marker, jinja2.Template] | None = None
        self._neutral: dict[str, list[str]] = {}

    def text(self, variables: Mapping[str, Any]) -> str:
        """The rendered conversation."""
        return _render(self._plain, variables)

    def spans(
        self,
        variables: dict[str, Any],
        said: Sequence[Mapping[str, Any]],
        names: Collection[str],
        trims: Collection[str],
    ) -> list[Any]:
        """[what was left out, text, control token, text, control token, …, text].

        Args:
          variables: of the template.
          said: the messages before they were put in the template's form.
          names: variables that are no user's.
          trims: see `said.left_out`.
        """
        plain = self.text(variables)
        try:
            counts = left_out(plain, said, trims)
        except LostError as error:
            raise _Refused(LOST, [error.number, error.text]) from None
        user = {name: value for name, value in variables.items() if name not in names}
        # Without a character that every control token needs, user text is part of one only where the template writes
        # the rest: then there are others in the text than in the same conversation with neutral words.
        if not _holds(self._risky, user):
            pieces = self._pieces(plain)
            if pieces[1::2] == self._expected(variables, user):
                return [counts, *pieces]
        marker, template = self._with_marks(plain, user)
        wrapped = {**variables, **{name: marker.wrap(value) for name, value in user.items()}}
        for message, before in zip(wrapped["messages"], variables["messages"], strict=True):
            message["role"] = before["role"]  # out of a fixed list, and templates build control tokens from it
        try:
            marked = str.__str__(_render(template, wrapped))
        except _Refused:
            raise _Refused(UNFOLLOWED, plain) from None
        if marker.unmark(marked) != plain:
            raise _Refused(UNFOLLOWED, plain)
        pieces = self._pieces(marked)
        return [counts, *(piece if i % 2 else marker.unmark(piece) for i, piece in enumerate(pieces))]

    def _pieces(self, text: str) -> list[str]:
        pieces, end = [], 0
        for match in self._split.finditer(text):
            pieces += [text[end : match.start()], match.group(match.lastindex or 0)]
            end = match.end()
        return [*pieces, text[end:]]

    def _expected(self, variables: dict[str, Any], user: dict[str, Any]) -> list[str] | None:
        """The control tokens of the same conversation with neutral text; None where it cannot be rendered."""
        neutral = {**user, "messages": _neutral(user["messages"])}
        key = json.dumps(neutral)
        if key not in self._neutral:
            try:
                text = _render(self._plain, {**variables, **neutral})
            except _Refused:
                return None
            if len(self._neutral) >= 1024:
                self._neutral.clear()
            self._neutral[key] = self._pieces(text)[1::2]
        return self._neutral[key]

    def _with_marks(self, plain: str, user: dict[str, Any]) -> tuple[Marker, jinja2.Template]:
        marker = self._marker
        if _holds(marker.marks, [plain, user]):  # somebody writes in private characters
            marker = Marker(self._control, self._source + plain + json.dumps(user, ensure_ascii=False))
        if self._marked is None or self._marked[0] is not marker:
            self._marked = (marker, Tracking(self._date, marker).from_string(self._source))
        return self._marked


def _render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    try:
        text = template.render(**variables)
    except FAULTS as error:
        raise _Refused(FAULT, f"{type(error).__name__}: {error}") from None
    if len(text) > LONGEST and len(text) > (longest := LONGEST + FACTOR * _size(variables)):
        raise _Refused(FAULT, f"it wrote {len(text)} characters, more than {longest}")
    return text


def _risky(control: Sequence[str]) -> re.Pattern[str]:
    """Few characters, rare in words where that is possible, of which every control token holds one."""
    letters: set[str] = set()
    left = [token for token in control if token]
    while left:
        counts = collections.Counter(letter for token in left for letter in set(token))
        letter = min(counts, key=lambda c: (c.isalnum() or c.isspace(), -counts[c], c))
        letters.add(letter)
        left = [token for token in left if letter not in token]
    return re.compile("[" + re.escape("".join(sorted(letters))) + "]" if letters else "(?!)")


def _holds(pattern: re.Pattern[str], value: Any) -> bool:
    if isinstance(value, str):
        return pattern.search(value) is not None
    if isinstance(value, Mapping):
        return any(_holds(pattern, item) or _holds(pattern, key) for key, item in value.items())
    return isinstance(value, Sequence) and any(_holds(pattern, item) for item in value)


def _neutral(value: Any) -> Any:
    if isinstance(value, str):
        return "x" if value.strip() else value
    if isinstance(value, Mapping):
        return {key: item if key in ("role", "type") else _neutral(item) for key, item in value.items()}
    return [_neutral(item) for item in value] if isinstance(value, Sequence) else value


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(item) for key, item in value.items())
    return sum(map(_size, value)) if isinstance(value, Sequence) else 4


class _Worker:
    """Answers requests; templates are known by number."""

    def __init__(self) -> None:
        self._templates: dict[int, Template] = {}

    def answer(self, asked: dict[str, Any]) -> Any:
        """The answer to one request: a list with a result or a refusal for each conversation."""
        number = asked["template"]
        if "source" in asked:
            given = (asked[name] for name in ("source", "date", "control", "split"))
            try:
                self._templates[number] = Template(*given)
            except _Refused as refused:
                return list(refused.args)
            return []
        template = self._templates[number]
        return [self._one(template, asked, *pair) for pair in asked["conversations"]]

    def _one(self, template: Template, asked: dict[str, Any], messages: Any, said: Any) -> Any:
        variables = {**asked["options"], "messages": messages}
        try:
            if asked["spans"]:
                said = messages if said is None else said
                return template.spans(variables, said, asked["names"], asked["trims"])
            return template.text(variables)
        except _Refused as refused:
            return {"refused": refused.args}


def main() -> None:
    """Answers until the input ends; a request that takes more processor time than it says ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that asks
    given, out = sys.stdin.buffer, sys.stdout.buffer
    worker = _Worker()
    out.write(b"ready\n")
    out.flush()
    for line in given:
        seconds, _, request = line.partition(b" ")
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # its signal ends the process
        try:
            answer = json.dumps(worker.answer(json.loads(request)))
        except Exception:  # a fault of ours: its traceback is shown where it was asked for
            answer = json.dumps({"failed": traceback.format_exc()})
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(answer.encode() + b"\n")
        out.flush()
