r"""Where a response says its final answer: in a box, after an announcement, or in its last number.

Always in what follows the thinking, and the first of these that there is:

* The last `\boxed{…}`. Boxes of one sentence that only "and", "or", commas, `x =` and marks of a list separate are one
  answer, the set of them. A box that never closes was cut off: there is no answer, whatever stands before it.
* What follows the last "answer is", "answer:", "####" or heading "Answer", in its line or, where that is empty,
  in the next one that isn't: mathematics set off there, else, where a number is wanted, the number that stands first or
  after the last equals sign, unless it goes on (`2\sqrt{3}`, "13 or 14") or is denied ("18 is wrong").
* Where a number is wanted, the last number, with the mathematics that it stands in; where an expression is, the last
  mathematics. Words and choices are announced, or there are none.

Others differ. lm-evaluation-harness 0.4 takes the last box alone, all between the first and last dollar signs (MATH),
what follows "The final answer is" in its line (Minerva), "####" or the last number (GSM8K). math-verify 0.9, and
lighteval 0.13 by the same patterns, join boxes less than 10 characters apart, or 70 with an "and", "or", comma or
semicolon anywhere between, over the end of a sentence too; read a box that never closes to the end of the text; and
look 50 characters behind the word "answer". None of them leaves the thinking out.
"""

import re
from typing import NamedTuple

from lrm_align.chat import split_thinking
from lrm_align.scoring import math_text, math_units

BOXED, NAMED, LAST_NUMBER, LAST_MATH = "boxed", "named", "last_number", "last_math"

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*(?:\{|(-?[\d.,]*\d)|$)")
_FAR = 70  # characters between two boxes of one answer
_BETWEEN = re.compile(
    r"(?:\s|\$|\\[()\[\],;:! ]|\\q?quad|\\\\|&|,|;|\*|~|\\text\s*\{\s*(?:,?\s*(?:and|or)|,)\s*\}"
    r"|(?:and|or|also|as well as|the|other|another|solution|root|is|either|both)\b"
    r"|(?<=\n)\s*(?:[-+•]|\d{1,2}[.)])\s"  # of a list
    r"|[a-zA-Z](?:_\{?\w{1,3}\}?)?\s*(?:=|\\approx|\\in)(?![a-zA-Z]))*"
)
_ANNOUNCED = re.compile(
    r"\banswers?\b[*_]*(?:[ \t](?:to|for|of)\b[^.:\n]{1,100}?)?[ \t]+(?:is|are)\b[ \t*_]*:?"
    r"|\banswers?[*_]*[ \t]*[:=]"
    r"|^[#>*_ \t]*(?:final[ \t]+)?answer[*_ \t]*$"
    r"|####(?![ \t*]*(?:\d+[.)]\s+)?[a-z]{3})",  # not the heading of a step
    re.IGNORECASE | re.MULTILINE,
)
_MARKS = re.compile(r"^(?:[ \t]*(?:[#>•]+|[-+*](?=[ \t]))[ \t]*)+")  # of a heading, a quotation, a list
_DISPLAY = {"$$": "$$", r"\[": r"\]"}
_MATH = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\\\[(.{1,1000}?)\\\]|\\\((.{1,1000}?)\\\)|(?<!\\)\$((?:\\.|[^$\\]){1,1000})\$", re.DOTALL
)
_GROUPED = re.compile(r"(?<=\d)\{\s*,\s*\}(?=\d{3})|(?<=\d),\\!\s*(?=\d{3})")  # 14{,}916
_JOINED = re.compile(r"\s*(?:,|;|,?\s*\b(?:and|or)\b)\s*")
_WORDS = re.compile(r"\\text\s*\{[^{}]*\}")
_PROSE = re.compile(r"(?<![\\a-zA-Z])[a-z]{2,} ")  # what stands between two prices is none
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
# Signs that are no hyphen, or stand apart from their digits: −5, –5, -$5, negative 5. A lone hyphen is a dash.
_SIGNS = (
    (re.compile(r"[−﹣－]|(?<![^\s(:=$])–(?=\\?\$?\.?\d)"), "-"),
    (re.compile(r"(?<![\w)}\]%$])(?<![\d)}\]%$] )(?:negative|minus) (?=\\?\$?\.?\d)", re.IGNORECASE), "-"),
    (re.compile(r"(?<![\w)}\]])-(\\?\$)(?=\.?\d)"), r"\1-"),
)
_FIRST_NUMBER = re.compile(r"-?\d*\\[dt]?frac\{-?\d+\}\{\d+\}|" + f"(?:{_NUMBER.pattern})" + r"(?:/\d+)?")
# What makes a number a part of something else: before it a brace, a power, a root, a letter; behind it an operator, a
# letter, a command that is no space, another number, or words that deny it.
_PART = re.compile(
    r"(?<![a-zA-Z])\\(?!(?:approx|simeq|sim|to|[rR]ightarrow|implies|q?quad|l?eq?|g?eq?|in|text)\s*$)[a-zA-Z]+\s*$"
    r"|(?<![\\a-zA-Z])[\w{^√_/]$|[\d{^√_/]$|\b(?:not|n['’]t)\s+\\?\$?$"
)
_GOES_ON = re.compile(
    r"\s*(?:\\(?![\s,;:!$%)\]]|q?quad|text|d?frac\{0\}|circ|pounds|euro|cents?|degree|\\)|[π√^+*×·÷]|\(|\bsqrt|\bpi\b)"
    r"|[a-zA-Z]"
    r"|\s*\$?\s*,?\s*\b(?:or|and)\b\s*\$?\s*-?[\d.\\]|\s*,\s*-?\d"
    r"|\s*\$?\s*(?:is|was)\s+(?:not|wrong|incorrect|false|impossible|too)\b"
    r"|\s+(?:or\s+(?:more|less|fewer)|million|billion|thousand|hundred|dozen|percent of)\b"
)
_GLUED = re.compile(r"[^\s.,;:!?)]+")


def final_answer(
    response: str, number: bool = False, opened: bool = False, expression: bool = False
) -> tuple[str, str] | None:
    r"""(what the response gives as its answer, how it was found), or None.

    >>> final_answer("<think>\\boxed{1}</think>So it is \\boxed{\\frac{1}{2}}.")
    ('\\frac{1}{2}', 'boxed')
    >>> final_answer("So x = \\boxed{1} or x = \\boxed{2}.")[0], final_answer("All in all we get \\boxed{1")
    ('\\{1, 2\\}', None)
    >>> final_answer("<think>x</think>The final answer is 42."), final_answer("<think>\\boxed{42}")
    (('42', 'named'), None)
    >>> final_answer("The answer is:\n\n$$x+1$$"), final_answer("That makes $1,200 in 3 days.", number=True)
    (('x+1', 'named'), ('3', 'last_number'))
    >>> final_answer("So it is all of $[2,5)$.", expression=True), final_answer("So it is all of $[2,5)$.")
    (('[2,5)', 'last_math'), None)
    >>> [final_answer(f"The answer is {said}", number=True)[0] for said in ("$42 for 3 of them.", "3 + 4 = 7 a day")]
    ['42', '7']

    Args:
      response: everything the assistant said.
      number: whether a bare number counts.
      opened: the prompt ends inside the thought.
      expression: whether mathematics counts that nothing announces.
    """
    answer = split_thinking(response, opened)[1]
    if not answer:
        return None
    if _BOX.search(answer):
        boxed = last_boxed(answer)
        return (boxed, BOXED) if boxed and boxed.strip() else None
    for sign, plain in _SIGNS:
        answer = sign.sub(plain, answer)
    announced = list(_ANNOUNCED.finditer(answer))
    if announced:
        named = _named(answer[announced[-1].end() :], number, expression)
        return (named, NAMED) if named else None
    if number:
        last = _last_number(_GROUPED.sub(",", answer))
        return (last, LAST_NUMBER) if last else None
    last = _last_math(answer) if expression else None
    return (last, LAST_MATH) if last else None


def last_boxed(text: str) -> str | None:
    r"""The contents of the last `\boxed{…}` or `\fbox{…}`, or the set of the last ones that are one answer.

    >>> last_boxed("\\boxed{1}. No: \\boxed{\\{2\\}}"), last_boxed("$\\boxed{1}$ and $\\boxed{2}$")
    ('\\{2\\}', '\\{1, 2\\}')
    >>> last_boxed("\\boxed 5"), last_boxed("\\boxed{7}, or rather \\boxed{\\frac{1}{2}"), last_boxed("1")
    ('5', None, None)
    """
    answers: list[str] = []
    after = len(text)
    for found in reversed(list(_BOX.finditer(text))):
        end = found.end() if found[1] else math_units.closing(text, found.end())
        if end is None or (not found[1] and found.end() == len(text)):
            break  # cut off, or around a box that was taken
        if answers and not (end < after < end + _FAR and _BETWEEN.fullmatch(text, end + (not found[1]), after)):
            break
        answers.append(found[1] or text[found.end() : end])
        after = found.start()
    return _set(answers[::-1])


def _set(answers: list[str]) -> str | None:
    """Several answers as the set of those that differ; None of none."""
    differing: dict[object, str] = {}
    for answer in answers:
        plain = math_text.normal(answer) if len(answer) <= math_units.LONGEST else answer
        value = math_text.rational(plain)
        differing.setdefault(plain if value is None else value, answer)
    if len(differing) > 1:
        return rf"\{{{', '.join(differing.values())}\}}"
    return answers[-1] if answers else None


def _named(text: str, number: bool, expression: bool) -> str | None:
    """What follows an announcement gives as the answer; None where nothing does, or it was cut off."""
    text = text.lstrip(" \t*_:")
    while text and not text.partition("\n")[0].strip("*_: \t\r"):
        text = text.partition("\n")[2]
    text = _GROUPED.sub(",", _MARKS.sub("", text).strip())
    for begin, end in _DISPLAY.items():
        if text.startswith(begin):
            inner, closes, _ = text[len(begin) :].partition(end)
            return inner.strip() or None if closes else None
    line = text.partition("\n")[0].replace("**", "").replace("__", "").strip("*_ ").rstrip(".").strip()
    if not math_text.balanced(line):
        return None
    rows = _rows(line)
    if rows and (rows[0][0].start == 0 or expression):
        line = _set([span.inner for span in rows[0]]) or line
    elif number:
        line = math_units.unset(line)
    return (_first_number(line) or line if number else line) or None


class _Span(NamedTuple):
    """Mathematics that dollar signs or the like set off in a text."""

    start: int
    end: int
    inner: str


def _spans(text: str) -> list[_Span]:
    found, place = [], 0
    while span := _MATH.search(text, place):
        inner = next(group for group in span.groups() if group is not None)
        if _PROSE.search(_WORDS.sub("", inner)):
            place = span.start() + 1  # a price; its dollar sign opens nothing
            continue
        found.append(_Span(span.start(), span.end(), inner.strip()))
        place = span.end()
    return found


def _rows(text: str) -> list[list[_Span]]:
    """The mathematics of a text, together where it is listed: $1$, $2$ and $3$."""
    rows: list[list[_Span]] = []
    for span in _spans(text):
        if rows and _JOINED.fullmatch(text, rows[-1][-1].end, span.start):
            rows[-1].append(span)
        else:
            rows.append([span])
    return rows


def _first_number(text: str) -> str | None:
    """The number that is given: of what follows the last equals sign, if there is one, the first."""
    for part in (text.rpartition("=")[2], text):
        if found := _FIRST_NUMBER.search(part):
            return found[0] if _alone(part, found) else None
    return None


def _last_number(answer: str) -> str | None:
    numbers = list(_FIRST_NUMBER.finditer(answer))
    if not numbers:
        return None
    last = numbers[-1]
    for span in _spans(answer):
        if span.start < last.start() < span.end:
            return _first_number(span.inner) or span.inner
    return last[0] if _alone(answer, last) else None


def _last_math(answer: str) -> str | None:
    rows = _rows(answer)
    return _set([span.inner for span in rows[-1]]) if rows else None


def _alone(text: str, found: re.Match[str]) -> bool:
    """Whether a number is none of something larger, and not denied."""
    before, behind = text[max(0, found.start() - 40) : found.start()], text[found.end() : found.end() + 100]
    glued = _GLUED.match(behind)
    unit = glued is not None and math_units.without_unit(f"0{glued[0]}", number=True) == "0"  # 5cm, 4th
    return not _PART.search(before) and (unit or not _GOES_ON.match(behind))
