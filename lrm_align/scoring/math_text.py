r"""One spelling for what people spell in many ways, and what a text so spelled is: a number, words, a choice."""

import fractions
import re

from lrm_align.scoring import math_units

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
_FRACTION = re.compile(r"([+-]?)\\frac\{(-?\d+)\}\{(-?\d+)\}")
_MIXED = re.compile(r"([+-]?)(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\[!,;:>]|\\q?quad|\\ |~", " "),
        (r"\\\$|\$|\\%|%|\\\(|\\\)|\\\[|\\\]", ""),
        (r"−|–", "-"),
        (r"\\(?:leq|le)(?![a-zA-Z])", r"\\le"),
        (r"\\(?:geq|ge)(?![a-zA-Z])", r"\\ge"),
        (r"\\lbrace|\\\{", r"\\{"),
        (r"\\rbrace|\\\}", r"\\}"),
        (r"\\begin\{[bBvp]?matrix\}", r"\\begin{matrix}"),
        (r"\\end\{[bBvp]?matrix\}", r"\\end{matrix}"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"_\{(\d+)\}", r"_\1"),
    )
)
_STATED = re.compile(r"[\w})]\\text\{[^{}]*\}$")
_SPOKEN = re.compile(r"(?<![\\a-zA-Z])(?!(?:sqrt|pi|sin|cos|tan|log|ln|exp|mod)(?![a-z]))[a-zA-Z]{2,}")
_ASSIGNED = re.compile(r"^([a-zA-Z]?)(?:=|≈|\\approx(?![a-zA-Z])|\\in(?![a-zA-Z]))(?=[^=]+$)")
_GROUPS = re.compile(r"\{\s*,\s*\}|(?<=\d),\s*(?:\\[!,;: ]\s*)+(?=\d{3})")  # of thousands
_THOUSANDS = re.compile(r"(?<=\d)\s+(?=\d{3}(?!\d))")
_MIXED_SLASH = re.compile(r"(?<![\d.,/])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
_ROW = "\0"  # stands for the end of a matrix row, whose backslashes are not those of a space
_SLASH = re.compile(r"(?<![\d.}\w])(-?)(\d+)/(\d+)(?![\d.\w])")
_WORDS = re.compile(r"\\text\{([^{}]*)\}")
_DATED = re.compile(r"[A-Z][a-z]{2,}\d+")  # June20
# A letter alone, or with a mark that sets it off from what the choice says.
_LETTER = re.compile(
    r"(?:(?:option|choice|answer)\s*:?\s*)?"
    r"(?:\(\s*([A-Ja-j])\s*\)|([A-Ja-j])\s*(?=\)|$)|((?-i:[A-J]))\s*(?=[.:,]|because\b|since\b))(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER = re.compile(r"^[\s).,]*(?:or|and|,|/|&)?[\s(]*[A-J](?![\w'])[\s).]*(?:$|,|or\b|and\b)|\s\(?[A-J]\)(?:\s|$)")


def balanced(text: str) -> bool:
    r"""Whether every brace closes.

    >>> balanced("\\frac{1}{2}"), balanced("\\frac{1}{2")
    (True, False)
    """
    depth = 0
    for place, letter in enumerate(text):
        if letter in "{}" and not math_units.escaped(text, place):
            depth += 1 if letter == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def normal(text: str, number: bool = False) -> str:
    r"""One spelling: no spaces, no typography, no units, degree or dollar signs, `\frac{1}{2}` for every half.

    >>> [normal(t) for t in ("\\dfrac 12", "1/2", "x = 5", "\\$36", "10,\\!080", "5.4 \\text{ cents}", "4210_{5}")]
    ['\\frac{1}{2}', '\\frac{1}{2}', 'x=5', '36', '10080', '5.4', '4210_5']
    >>> [normal(t, number=True) for t in ("\\mathbf{-7}", "28 percent", "72 clips", "\\text{13 or 14}", "5x")]
    ['-7', '28', '72', '13or14', '5x']

    Args:
      text: an answer, without the box around it.
      number: it is compared with a number; see `math_units.without_unit`.
    """
    text = math_units.unset(text.replace(_ROW, "").strip().strip("*").rstrip(".").strip()).replace("\\\\", _ROW)
    text = _GROUPS.sub(",", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = math_units.without_unit(text.strip().rstrip("."), number)
    text = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1\1", text)  # \cot x is not \cotx
    text = _THOUSANDS.sub("", _MIXED_SLASH.sub(r"\1\\frac{\2}{\3}", text))
    text = re.sub(r"(?<=\d)\s+(?=\d)", "\1", text)  # two numbers
    text = re.sub(r"\s+", "", text).replace("\1", " ")
    text = _SLASH.sub(r"\1\\frac{\2}{\3}", text)
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    return re.sub(r"(?<![\d.])\.(?=\d)", "0.", text).replace(_ROW, "\\\\")


def assigned(text: str) -> tuple[str | None, str]:
    r"""(variable, value) of a normal text `x=value` or `x\in value`; (None, text) of another.

    >>> assigned("x=5"), assigned("x+y=5")
    (('x', '5'), (None, 'x+y=5'))
    """
    found = _ASSIGNED.match(text)
    return (found[1] or None, text[found.end() :].strip()) if found else (None, text)


def rational(text: str) -> fractions.Fraction | None:
    r"""The exact value of a normal text that is a number, a fraction or a mixed number; None of anything else.

    >>> rational("0.50") == rational("\\frac{1}{2}"), rational("1\\frac{4}{5}"), rational("\\pi")
    (True, Fraction(9, 5), None)
    """
    if len(text) > 200:
        return None  # nobody's answer, and thousands of digits take minutes
    if _PLAIN_NUMBER.fullmatch(text):
        return fractions.Fraction(text)
    if found := _FRACTION.fullmatch(text):
        sign, over, under = found.groups()
        return None if int(under) == 0 else fractions.Fraction(int(over), int(under)) * (-1 if sign == "-" else 1)
    if found := _MIXED.fullmatch(text):
        sign, whole, over, under = found.groups()
        if int(under) == 0:
            return None
        return (int(whole) + fractions.Fraction(int(over), int(under))) * (-1 if sign == "-" else 1)
    return None


def states(text: str) -> bool:
    r"""Whether a normal text that should be a number says something else: words that are no unit, another number.

    >>> [states(normal(t, True)) for t in ("5\\text{ is wrong}", "13 or 14", "3 4", "5\\text{ feet}", "\\text{even}")]
    [True, True, True, False, False]
    """
    return bool(_STATED.search(text) or _SPOKEN.search(_WORDS.sub("", text)) or re.search(r"\d \d", text))


def unwrapped(text: str) -> str:
    r"""A normal text in small letters, without what only says how letters are set.

    >>> unwrapped(normal("\\text{June 20}")), unwrapped(normal("(June 20)"))
    ('june20', 'june20')
    """
    return _WORDS.sub(r"\1", text).strip("()").lower()


def gold_words(text: str) -> str | None:
    r"""`words`, and those that end in a number, as a day has: of an answer this could be algebra.

    >>> gold_words("June20"), words("June20"), gold_words("x20")
    ('june20', None, None)
    """
    return text.lower() if _DATED.fullmatch(text) else words(text)


def letter(text: str) -> str | None:
    r"""The letter of the choice that an answer names, as a capital; None where it names none, or several.

    >>> [letter(t) for t in ("C) 42", "\\textbf{(C)}\\ 42", "c", "Option C: B or A", "A and B", "a bit", "(A) or (B)")]
    ['C', 'C', 'C', 'C', None, None, None]
    """
    plain = math_units.unset(text.strip().strip("$*").strip())
    for pattern, _ in _REWRITES[1:3]:  # spaces, dollar signs
        plain = pattern.sub(" ", plain)
    plain = _WORDS.sub(r"\1", re.sub(r"\\text\s*\{", r"\\text{", plain)).strip().rstrip(".").strip()
    found = _LETTER.fullmatch(plain)
    if not found or _ANOTHER.search(found[4]):
        return None
    return (found[1] or found[2] or found[3]).upper()


def words(text: str) -> str | None:
    r"""The letters of a normal text that is words, or None.

    >>> words("\\text{(C)}"), words("\\text{Evelyn}"), words("Evelyn"), words("x+1"), words("C")
    ('c', 'evelyn', 'evelyn', None, 'c')
    """
    inner = _WORDS.sub(r"\1", text).strip("()")
    if "\\text" in text and _WORDS.fullmatch(text.strip("()")):
        return inner.lower()
    return inner.lower() if re.fullmatch(r"[A-Za-z]{3,}|[A-J]", inner) else None
