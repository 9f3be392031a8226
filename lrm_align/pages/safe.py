"""Hostile text made harmless: whatever a model or a prompt wrote, a page shows it and nothing more."""

import functools
import html
import json
import re
import unicodedata
from typing import Any

from lrm_align.traces.show import escaped

_INTERVAL = re.compile(r"([\d.]+ %) ([\[±].{1,20})")
_RISKY = re.compile("[<>&\u2028\u2029\ud800-\udfff]")  # what ends an element or a line, and what no file can hold
STACKED = 4  # marks on one letter that are shown; the most that real orthographies use. Ours

# Letters and marks that show nothing, and so could hide text; the two selectors of emoji forms stay.
_INVISIBLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0}
_INVISIBLE |= {*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)}
_SPELLED = {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in _INVISIBLE}


def shown(text: str) -> str:
    r"""Spells out what could hide text or disturb its neighbours: controls, bidi marks, invisible letters, mark towers.

    >>> shown("a\u202eb\ufe01c\nd")
    'a\\u202eb\\ufe01c\nd'
    >>> shown("o" + "\u0301" * 6) == "o" + "\u0301" * 4 + r"\u0301\u0301"
    True
    """
    return _towers(escaped(text.replace("\r\n", "\n"), keep="\n\t").translate(_SPELLED))


def _towers(text: str) -> str:
    if text.isascii():
        return text
    out, height = [], 0
    for char in text:
        height = height + 1 if is_mark(char) else 0
        out.append(char if height <= STACKED else spelled(char))
    return "".join(out)


@functools.lru_cache(4096)
def is_mark(char: str) -> bool:
    """Whether a character stands on the one before it."""
    return unicodedata.category(char) in ("Mn", "Me")


def spelled(text: str) -> str:
    r"""Every character that is not ASCII by its number.

    >>> spelled("a\u0301")
    'a\\u0301'
    """
    return text.encode("unicode_escape").decode("ascii")


def text(value: object) -> str:
    """A value as the text of an HTML element or of an attribute in quotes.

    >>> text('<b>"&')
    '&lt;b&gt;&quot;&amp;'
    """
    return html.escape(shown(str(value)))


def cell(value: object) -> str:
    """A cell of a table; a figure and its interval may stand on two lines, and are not broken within.

    >>> cell("2.0 % [0.6, 7.0]")
    '<td><span>2.0 %</span> <span>[0.6, 7.0]</span></td>'
    """
    parts = _INTERVAL.fullmatch(str(value))
    if not parts:
        return f"<td>{text(value)}</td>"
    return f"<td><span>{text(parts[1])}</span> <span>{text(parts[2])}</span></td>"


def data(value: Any) -> str:
    r"""A plain value as JSON that may stand in an HTML script element of a type that no browser runs.

    >>> data({"a": "</script><!--"})
    '{"a":"\\u003c/script\\u003e\\u003c!--"}'
    """
    written = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
