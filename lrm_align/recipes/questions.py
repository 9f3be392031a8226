"""Yes-or-no questions that a model answers about a response: how they are put, and how an answer is read."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat import split_thinking
from lrm_align.errors import UserError
from lrm_align.scoring import Score

FIELDS = ("request", "thought", "block", "answer")


class Question(NamedTuple):
    """A question about a response.

    Attributes:
      template: the user turn, with any of the fields `{request}`, `{thought}`, `{block}` and `{answer}`.
      one: what an answer of yes (the indicator is 1) holds.
      zero: what an answer of no holds.
    """

    template: str
    one: re.Pattern[str]
    zero: re.Pattern[str]

    def text(self, **parts: str | None) -> str:
        """The user turn for a response."""
        return self.template.format(**{name: parts.get(name) or "" for name in FIELDS})

    def read(self, reply: str, finished: bool = True) -> Score:
        """1 or 0; unscored where the reply has no answer, or says both or neither.

        >>> question = make({"template": "?", "one": "yes", "zero": "no"}, "example")
        >>> question.read("<think>no, or</think>yes").value, question.read("yes and no").reason
        (1.0, 'the judge says both')
        """
        answer = split_thinking(reply)[1]
        if not finished or answer is None:
            return Score.unscored("the judge did not finish")
        says = (bool(self.one.search(answer)), bool(self.zero.search(answer)))
        if says[0] == says[1]:
            return Score.unscored("the judge says both" if says[0] else "the judge says neither")
        return Score(float(says[0]))


def make(settings: Mapping[str, Any], where: str) -> Question:
    """A question from its settings.

    Args:
      settings: `template`, and the regular expressions `one` and `zero`.
      where: the config key, for error messages.

    Raises:
      UserError: an unknown field in the template, or an expression that does not compile.
    """
    check_fields(settings["template"], FIELDS, f"{where}.template")
    patterns = {}
    for name in ("one", "zero"):
        try:
            patterns[name] = re.compile(settings[name])
        except re.error as error:
            raise UserError(f"{where}.{name} is no regular expression: {settings[name]!r}: {error}") from None
    return Question(settings["template"], **patterns)


def check_fields(template: str, known: Sequence[str], where: str, required: Sequence[str] = ()) -> None:
    """Looks at the fields of a template.

    Raises:
      UserError: a brace that does not close, an unknown field, or one that is missing.
    """
    try:
        found = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UserError(f"{where} is not a template: {error}; write {{{{ and }}}} for braces") from None
    unknown, missing = sorted(found - set(known)), [name for name in required if name not in found]
    if unknown or missing:
        raise UserError(f"{where}: unknown fields {unknown}, missing {missing}; known are {', '.join(known)}")
