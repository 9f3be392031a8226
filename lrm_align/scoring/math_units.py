r"""What stands around a number and is none of it: how letters are set, units, percent words, currencies.

The table is made of what other evaluators take away today. lighteval 0.13 spells through the same
library as math-verify; of lm-evaluation-harness 0.4, the tasks Minerva and MATH have rules of their own.

| | math-verify 0.9 | lm-evaluation-harness | here |
|---|---|---|---|
| `\mathbf{-7}`, `\text{13}` | -7, 13 | some, and `\overline` | what only sets letters; never `\overline` |
| `18 hours`, `18 dollars` | 140 words without dollars | 30 words | words that say nothing else of the number |
| `72 clips` | 72 times c, l, i, p, s | stays | 72 for a gold number; words of 4 letters or more |
| `5x`, `5t`, `5 m` | a product, 5, 5 | stays | a product, a product, 5 for a gold number |
| `12 cm^2` | a product | `\text{}^2` alone | 12 |
| `28 percent`, `28\%` | 28 and 0.28 | 28 where it is `\%` | 28 |
| `32, 349` | a pair | 32349 | 32349 |
| `€50` | no number in LaTeX | stays | 50 |
| `18 dozen`, `5 thirds` | products | stays | no number |
| `3 hours or 4`, `\text{13 or 14}` | a set, a text | stays | no number |
"""

import re

LONGEST = 2_000  # characters; longer texts are left as they are
_SET = (  # all become \text, and go where they hold no words; \overline and \cancel change what they hold
    "mbox|hbox|textbf|textrm|textnormal|textit|textsf|texttt|textup|textsc|emph|underline|ensuremath|operatorname|"
    "mathrm|mathbf|mathit|mathsf|mathtt|mathnormal|boldsymbol|pmb|bm"
)
_WRAPPER = re.compile(rf"\\(?:{_SET})\*?(?![a-zA-Z])\s*(?=\{{)")
_SWITCH = re.compile(
    r"\\(?:bf|rm|it|sf|tt|bfseries|itshape|tiny|small|normalsize|large|Large|LARGE|huge|Huge|textstyle|displaystyle|"
    r"scriptstyle)(?![a-zA-Z])\s*|\\(?:text)?color\s*\{[^{}]*\}\s*"
)
_TEXT = re.compile(r"\\text\s*\{")
_PLAIN_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")  # not the name of a command
_COUNTED = re.compile(r"\s*[-+(\[{]*\s*[\d.$\\]")  # begins as a number does
_QUOTED = re.compile(r"([\"'`“‘])(.*)([\"'`”’])", re.DOTALL)
_GROUP = re.compile(r"\{([^{}]*)\}")

_CURRENCY = re.compile(  # the dollar goes with the signs of LaTeX
    r"[¢-¥฿₠-⃀＄￠￡￥￦]|\\(?:pounds|euro|texteuro|textsterling|textyen|yen|cents?|textcent)(?![a-zA-Z])"
)
_CODE = re.compile(r"^(?:US|USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD|Rs|rs)\b\.?\s*(?=\\?\$?\s*[-\d.\\])")
_ORDINAL = re.compile(r"(?<=\d)\s*(?:\^\s*)?\{?\s*(?:\\text\s*\{\s*)?(?:st|nd|rd|th)\s*\}{0,2}$")
_DEGREES = re.compile(r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|°)\s*(?:(?:\\text\s*\{\s*)?[CFK]\s*\}?$)?|[℃℉]")

# Known units may stand behind any expression. They have two letters or more.
_KNOWN = (
    "mm|cm|dm|km|kms|in|inch|inches|ft|foot|feet|yd|yds|yards?|mi|miles?|met(?:er|re)s?|cent?imet(?:er|re)s?|"
    "millimet(?:er|re)s?|kilomet(?:er|re)s?|mg|kg|kgs|lbs?|oz|gm|gms|grams?|kilograms?|pounds?|ounces?|tons?|"
    "ml|mL|cl|dl|gal|gallons?|lit(?:er|re)s?|cups?|sq|square|cu|cubic|"
    "ms|secs?|seconds?|min|mins|minutes?|hr|hrs|hours?|days?|weeks?|months?|yrs?|years?|am|pm|mph|kmh|kph|kmph|rpm|"
    "hz|Hz|kHz|MHz|GHz|kW|kWh|MW|kJ|kPa|Pa|eV|KB|MB|GB|TB|ohms?|volts?|watts?|amps?|joules?|newtons?|"
    "degs?|degrees?|radians?|rads?|percent|percentage|pct|dollars?|euros?|cents?|rupees?|yen|bucks?|rs|"
    "units?|points?|pts|ways?|people|men|women|man|woman|kids?|boys?|girls?|students?|digits?|integers?|"
    "apples?|books?|coins?|pens?|pencils?|toys?|eggs?|hens?|cows?|dogs?|cats?|cars?|bags?|box|boxes|pies?|acres?|"
    "USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD"
)
# Words that make what they follow a statement, another number or a function: no units.
_NO_UNIT = (
    "is|isn|are|aren|was|were|be|has|have|had|not|no|never|or|and|but|if|when|where|since|because|for|from|to|as|so|"
    "more|less|fewer|than|most|least|too|wrong|incorrect|false|right|correct|true|invalid|impossible|only|maybe|perhaps|"
    "probably|possibly|approximately|about|around|roughly|nearly|almost|over|under|above|below|between|out|"
    "base|mod|modulo|plus|minus|times|divided|squared|cubed|factorial|choose|roots?|sqrt|cbrt|power|log|ln|exp|"
    "sin|cos|tan|cot|csc|pi|tau|theta|phi|alpha|beta|gamma|delta|lambda|omega|inf|infinity|infinite|nan|undefined|"
    "half|halves|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|zero|one|two|three|"
    "four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|"
    "thousands?|millions?|billions?|trillions?|dozens?|positive|negative|others?|another|remainder"
)
_IS_UNIT = rf"(?!(?:{_NO_UNIT})\b)"
_POWER = r"(?:\s*(?:\^\s*\{?\s*[1-4]\s*\}?|[²³⁴]))?"
# A number, a group, or a variable: never a word.
_BEHIND = r"(?:(?<=[\d})\]°%])|(?<=\\pi)|(?<=(?<![A-Za-z])[A-Za-z]))"


def _units(word: str) -> str:
    """One or two words, and perhaps what they are counted by: square feet, sq. ft., miles per hour, km/h."""
    some = rf"{word}(?:[\s-]+(?!per\b){word})?(?:\s+(?:squared|cubed))?{_POWER}"
    return rf"\(?\s*{some}(?:\s*(?:/|\bper\b)\s*(?:{some}|[a-zA-Z]\b{_POWER}))?\s*\)?"


_END = r"(?![A-Za-z])[.]?"
_IN_WORDS = rf"{_IS_UNIT}(?:[ap]\.\s?m\.|[A-Za-zµ]+[.]?)"
_TEXT_UNIT = rf"\\text\s*\{{\s*{_units(_IN_WORDS)}\s*\}}{_POWER}"  # there are no variables in \text
_IN_TEXT = re.compile(
    rf"{_BEHIND}\s*(?:{_TEXT_UNIT}(?:\s*(?:/|\\cdot|\\text\s*\{{\s*per\s*\}})\s*{_TEXT_UNIT})?"
    rf"|\\frac\s*\{{\s*{_TEXT_UNIT}\s*\}}\s*\{{\s*{_TEXT_UNIT}\s*\}})$",
    re.IGNORECASE,
)
_IN_TABLE = re.compile(rf"{_BEHIND}\s+{_units(rf'(?:{_KNOWN}){_END}')}$", re.IGNORECASE)
# Behind a number: any word of four letters, or three before another (red marbles), or a letter of the metric system.
_SOME = rf"{_IS_UNIT}(?:(?:{_KNOWN})|[A-Za-z]{{4,}}|[A-Za-z]{{3}}(?=[ -][A-Za-z]{{4}})){_END}"
_RATE = rf"(?:\s*/\s*[a-zA-Z]{{1,4}}{_POWER})?"
_OF_A_NUMBER = re.compile(
    rf"{_BEHIND}(?:\s+(?:(?:per\s+)?{_units(_SOME)}|[msghL]{_POWER}{_RATE})|\s*m[²³]|(?:{_KNOWN}){_END}{_POWER}{_RATE})$",
    re.IGNORECASE,
)


def closing(text: str, begin: int) -> int | None:
    r"""Where the brace closes whose contents begin at a place; None where it never does.

    >>> closing("{a{b}\\}}", 1), closing("{a{b}", 1)
    (7, None)
    """
    depth = 1
    for place in range(begin, len(text)):
        if text[place] in "{}" and not escaped(text, place):
            depth += 1 if text[place] == "{" else -1
        if depth == 0:
            return place
    return None


def escaped(text: str, place: int) -> bool:
    """Whether a backslash that is none of a line's end stands before a place."""
    backslashes = 0
    while place - backslashes > 0 and text[place - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1


def unset(text: str) -> str:
    r"""A text without what only says how it is set. Words keep a wrapper, which is `\text` then.

    >>> [unset(t) for t in ("\\text{13}", "\\mathbf{-7}", "{\\bf 13}", "\\text{18 dollars}", "\\mathrm{June}\\ 20")]
    ['13', '-7', '13', '18 dollars', '\\text{June}\\ 20']
    """
    if len(text) > LONGEST:
        return text
    text = _WRAPPER.sub(r"\\text", _SWITCH.sub("", text.strip().strip("*").strip()))
    if (quoted := _QUOTED.fullmatch(text)) and quoted[1] not in quoted[2]:
        text = quoted[2].strip()
    text = _unwrapped(text)
    while (group := _GROUP.fullmatch(text)) is not None:  # {\bf 13}
        text = group[1].strip()
    return text


def _unwrapped(text: str) -> str:
    found = _TEXT.search(text)
    if found is None:
        return text
    end = closing(text, found.end())
    if end is None:
        return text
    inner, rest = _unwrapped(text[found.end() : end]), _unwrapped(text[end + 1 :])
    whole = not text[: found.start()].strip() and not rest.strip()
    bare = any(letter.isdigit() for letter in inner) and not _PLAIN_WORD.search(inner)
    if bare or (whole and _COUNTED.match(inner)):
        return text[: found.start()] + inner + rest
    return f"{text[: found.start()]}\\text{{{inner}}}{rest}"


def without_unit(text: str, number: bool = False) -> str:
    r"""A text without the unit at its end, degrees, and the names of currencies.

    >>> [without_unit(t) for t in ("5.4 \\text{ cents}", "3\\pi cm^2", "12 cm^2", "€50", "5 \\text{ or more}", "9 toe")]
    ['5.4', '3\\pi', '12', '50', '5 \\text{ or more}', '9 toe']
    >>> [without_unit(t, number=True) for t in ("9 clips", "5cm", "5 m/s", "5x", "3 hours or 4", "18 is wrong", "4th")]
    ['9', '5', '5', '5x', '3 hours or 4', '18 is wrong', '4']

    Args:
      text: an answer, with `\text` as the one wrapper.
      number: it is compared with a number, so that a word behind it is no product of variables.
    """
    if len(text) > LONGEST:
        return text
    text = re.sub(r"\s+", " ", text)  # the patterns below would try every way to share out spaces
    text = _CODE.sub("", _DEGREES.sub("", _CURRENCY.sub("", text)).strip()).strip()
    for pattern in (_IN_TEXT, _OF_A_NUMBER if number else _IN_TABLE):
        text = pattern.sub("", text).strip()
    return _ORDINAL.sub("", text).strip() if number else text
