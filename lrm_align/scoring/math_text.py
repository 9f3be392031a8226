r"""Final answers as text: where a response says its answer, and one spelling for what people spell in many ways.

Extraction: the last `\boxed{…}` with balanced braces, else what follows the last "final answer is", "answer is" or
"answer:" (of it, where a number is wanted, the first one, or the first after the last equals sign), else, where a
number is wanted, the last number. Always in what follows the thinking.
"""

import fractions
import re

from lrm_align.chat import split_thinking

BOXED, NAMED, LAST_NUMBER = "boxed", "named", "last_number"

_NAMED = re.compile(r"(?:\banswer(?: is|:):?|####)[ \t*]*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_FIRST_NUMBER = re.compile(r"-?\d*\\[dt]?frac\{-?\d+\}\{\d+\}|" + f"(?:{_NUMBER.pattern})" + r"(?:/\d+)?")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
_FRACTION = re.compile(r"([+-]?)\\frac\{(-?\d+)\}\{(-?\d+)\}")
_MIXED = re.compile(r"([+-]?)(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mbox|textbf|textrm|textnormal|textit|mathrm|mathbf|operatorname)(?![a-zA-Z])", r"\\text"),
        (r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\displaystyle|\\[!,;:>]|\\q?quad|\\ |~", ""),
        (r"\\\$|\$|\\%|%|\\\(|\\\)|\\\[|\\\]", ""),
        (r"\^\{?\\circ\}?|\\degree|°", ""),
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
# Words that make a text after a number a statement, no unit.
_NO_UNIT = (
    "is|are|was|were|be|not|no|never|or|and|but|if|when|where|since|because|for|more|less|fewer|than|most|least|wrong|"
    "incorrect|false|right|correct|true|base|mod|plus|minus|times|only"
)
_UNIT_WORD = rf"(?!(?:{_NO_UNIT})\b)[A-Za-zµ]+\.?"
_UNITS = rf"{_UNIT_WORD}(?:[\s-]+(?!per\b){_UNIT_WORD})?"  # square feet, sq. ft.
_UNIT = re.compile(
    rf"(?<=[\w}})])\s*\\text\s*\{{\s*\(?{_UNITS}(?:\s*(?:/|\bper\b)\s*{_UNITS})?\)?\s*\}}(?:\s*\^\{{?\d\}}?)?$",
    re.IGNORECASE,
)
_STATED = re.compile(r"[\w})]\\text\{[^{}]*\}$")
_ASSIGNED = re.compile(r"^([a-zA-Z])(?:=|\\in(?![a-zA-Z]))(?=[^=]+$)")
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


def final_answer(response: str, number: bool = False, opened: bool = False) -> tuple[str, str] | None:
    r"""(what the response gives as its answer, how it was found), or None.

    >>> final_answer("<think>\\boxed{1}</think>So it is \\boxed{\\frac{1}{2}}.")
    ('\\frac{1}{2}', 'boxed')
    >>> final_answer("<think>x</think>The final answer is 42."), final_answer("<think>\\boxed{42}")
    (('42', 'named'), None)
    >>> final_answer("That makes $1,200 in 3 days.", number=True)
    ('3', 'last_number')
    >>> [final_answer(f"The answer is {said}", number=True)[0] for said in ("$42 for 3 of them.", "3 + 4 = 7 a day")]
    ['42', '7']

    Args:
      response: everything the assistant said.
      number: whether a bare number counts.
      opened: the prompt ends inside the thought.
    """
    answer = split_thinking(response, opened)[1]
    if not answer:
        return None
    if (boxed := last_boxed(answer)) is not None:
        return (boxed, BOXED) if boxed.strip() else None
    named = _NAMED.findall(answer)
    if named and (text := named[-1].strip("*_ ").rstrip(".").strip()):
        return (_first_number(text) or text if number else text), NAMED
    numbers = _NUMBER.findall(answer) if number else []
    return (numbers[-1], LAST_NUMBER) if numbers else None


def last_boxed(text: str) -> str | None:
    r"""The contents of the last `\boxed{…}` or `\fbox{…}`; None where there is none or its braces never close.

    >>> last_boxed("\\boxed{1} \\boxed{\\{2\\}}"), last_boxed("\\boxed{\\frac{1}{2}"), last_boxed("1")
    ('\\{2\\}', None, None)
    """
    starts = list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))
    if not starts:
        return None
    begin, depth = starts[-1].end(), 1
    for place in range(begin, len(text)):
        if text[place] in "{}" and not _escaped(text, place):
            depth += 1 if text[place] == "{" else -1
        if depth == 0:
            return text[begin:place]
    return None


def balanced(text: str) -> bool:
    r"""Whether every brace closes.

    >>> balanced("\\frac{1}{2}"), balanced("\\frac{1}{2")
    (True, False)
    """
    depth = 0
    for place, letter in enumerate(text):
        if letter in "{}" and not _escaped(text, place):
            depth += 1 if letter == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def normal(text: str) -> str:
    r"""One spelling: no spaces, units, degree or dollar signs, `\frac{1}{2}` for every half.

    >>> [normal(t) for t in ("\\dfrac 12", "1/2", "x = 5", "\\$36", "10,\\!080", "5.4 \\text{ cents}", "4210_{5}")]
    ['\\frac{1}{2}', '\\frac{1}{2}', 'x=5', '36', '10080', '5.4', '4210_5']
    """
    text = text.replace(_ROW, "").strip().strip("*").rstrip(".").strip().replace("\\\\", _ROW)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _UNIT.sub("", text.strip())
    text = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1\1", text)  # \cot x is not \cotx
    text = re.sub(r"\s+", "", text).replace("\1", " ")
    text = _SLASH.sub(r"\1\\frac{\2}{\3}", text)
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    return re.sub(r"(?<![\d.])\.(?=\d)", "0.", text).replace(_ROW, "\\\\")


def assigned(text: str) -> tuple[str | None, str]:
    r"""(variable, value) of a normal text `x=value` or `x\in value`; (None, text) of another.

    >>> assigned("x=5"), assigned("x+y=5")
    (('x', '5'), (None, 'x+y=5'))
    """
    found = _ASSIGNED.match(text)
    return (found[1], text[found.end() :].strip()) if found else (None, text)


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
    r"""Whether words that are no unit end a normal text: it says something of its number.

    >>> [states(normal(text)) for text in ("5\\text{ is wrong}", "5\\text{ square feet}", "\\text{even}", "5")]
    [True, False, False, False]
    """
    return bool(_STATED.search(text))


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
    plain = text.strip().strip("$*").strip()
    for pattern, replacement in _REWRITES[1:4]:  # how letters are set, spaces, dollar signs
        plain = pattern.sub(replacement or " ", plain)
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


def _first_number(text: str) -> str | None:
    """The number that is given: of what follows the last equals sign, if there is one, the first."""
    for part in (text.rpartition("=")[2], text):
        if found := _FIRST_NUMBER.search(part):
            return found[0]
    return None


def _escaped(text: str, place: int) -> bool:
    backslashes = 0
    while place - backslashes > 0 and text[place - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1
