"""How many sentences a text has: the unit in which RAPO measures safe reasoning.

The authors' code counts ". " and adds one, so that questions, exclamations, new lines and every language without a
Latin full stop are invisible to it, and "e.g. " is an end.
"""

import re

# Full-width and ideographic stops, the Arabic and Urdu ones, the danda: no space need follow them.
STOPS = ".!?…"
WIDE = "。！？｡．؟۔।॥"
_CLOSERS = "\"'”’»)\\]}）」』】》*_`"
# One run of marks with what closes behind it; a Latin one ends a sentence only before a space or the end.
_END = re.compile(rf"[{WIDE}]+[.!?…{WIDE}]*[{_CLOSERS}]*|([.!?…]+)[{_CLOSERS}]*(?=\s|$)")
_LINE = re.compile(r"[\r\n\u0085\u2028\u2029]+")
_SAYS = re.compile(r"[^\W_]")  # a letter or a digit of any script
_MARKER = re.compile(r"^\s*(?:[-*+•]|#{1,6}|\(?\d{1,3}[.)]|\(?[a-z]\))\s+")  # of a list or a heading

# Never the last word of a sentence; and words that are, where a capital follows.
_NEVER_LAST = re.compile("mrs?|ms|dr|prof|st|vs|e[.]?g|i[.]?e|cf|approx|ca|figs?|eqs?|vol|pp")
_ABBREVIATION = re.compile("jr|sr|sec|nos?|p|al|etc|inc|ltd|co|corp|dept|est|min|max|u[.][skn]|[ap][.]m")
_QUOTES = frozenset("\"'”’»」』")
_OPENERS = "\"'“‘«([{*_`"


def count_sentences(text: str) -> int:
    """The number of sentences.

    Ends are `.`, `?`, `!` and `…` before a space or the end (quotes and brackets may close in between), the stops of
    other scripts anywhere, and line ends. No ends: decimals, abbreviations, initials, dots before a small letter that
    go on with the sentence ("hm ... yes"), the marker of a list. What has no letter and no digit is no sentence.

    >>> count_sentences("It asks for 3.5 g, e.g. of salt. Is that safe? Yes!"), count_sentences("安全吗？不安全。")
    (3, 2)
    >>> count_sentences("one line\\nanother line"), count_sentences("...")
    (2, 0)
    """
    return len(sentences(text))


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the space around them and the markers of lists.

    >>> sentences('1. He said "No." Then\\n- it ended')
    ['He said "No."', 'Then', 'it ended']
    """
    found = []
    for line in _LINE.split(text):
        line, start = _MARKER.sub("", line), 0
        for end in _END.finditer(line):
            if end.group(1) and not _ends(line[start : end.start()], end.group(), end.group(1), line[end.end() :]):
                continue
            found.append(line[start : end.end()])
            start = end.end()
        found.append(line[start:])
    return [sentence.strip() for sentence in found if _SAYS.search(sentence)]


def _ends(before: str, run: str, marks: str, after: str) -> bool:
    """Whether a run of Latin marks, `marks` with what closes behind them, is the end of a sentence."""
    rest = after.lstrip().lstrip(_OPENERS)
    if not rest:
        return True
    goes_on = rest[0].islower()
    if goes_on and _QUOTES & set(run):
        return False  # "Stop!" he said.
    if not set(marks) <= {".", "…"}:
        return True
    if marks != ".":
        return not goes_on
    word = "" if before[-1:].isspace() else before.split()[-1].lstrip(_OPENERS) if before else ""
    if _NEVER_LAST.fullmatch(word.lower()) or (len(word) == 1 and word.isupper() and word not in "IA"):
        return False
    if _ABBREVIATION.fullmatch(word.lower()):
        # "at 5 p.m. He left" ends; "at 5 p.m. today" and "No. 5" go on.
        return not (goes_on or rest[0].isdigit())
    return True
