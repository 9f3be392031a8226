"""User text that passes through a template without ever reading as a control token.

A template may trim, split or compare what users wrote, so their text cannot be cut out before rendering. Instead the
characters that could make up a control token are swapped for stand-ins, private code points that occur nowhere else.
Stand-ins survive every concatenation; methods of `UserText` work on the original. After rendering, only the template's
own control tokens are left to be found, and the stand-ins are swapped back.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

# Two private-use planes of Unicode; no tokenizer or template gives them a meaning.
_PRIVATE = range(0xF0000, 0x10FFFE)


class Marker:
    """Swaps characters of user text so that no control token is left in it, nor any part at its edges.

    >>> marker = Marker(["<think>"], avoid="")
    >>> marked = marker.mark("say <think> or <th")
    >>> "<think>" in marked, "<th" in marked, marker.unmark(marked)
    (False, False, 'say <think> or <th')

    Args:
      control: the strings that must not be forged.
      avoid: text whose characters must not serve as stand-ins.
    """

    def __init__(self, control: Collection[str], avoid: str):
        self._control = tuple(token for token in control if token)
        firsts = "".join(sorted({token[0] for token in self._control}))
        self._first = re.compile(f"[{re.escape(firsts)}]" if firsts else "(?!)")
        self._heads = {token[:n] for token in self._control for n in range(1, len(token))}
        self._tails = {token[n:] for token in self._control for n in range(1, len(token))}
        self._longest = max(map(len, self._control), default=0)
        taken = set(avoid)
        free = (chr(code) for code in _PRIVATE if chr(code) not in taken)
        self._stand_in = {ord(c): next(free) for c in sorted(set("".join(self._control)))}
        self._original = {ord(stand_in): chr(c) for c, stand_in in self._stand_in.items()}

    def stands_apart_from(self, text: str) -> bool:
        """Whether no stand-in occurs in the text."""
        return self._original.keys().isdisjoint(map(ord, text))

    def mark(self, text: str) -> str:
        """The text with stand-ins; of the same length, and itself where it is harmless."""
        starts = (match.start() for match in self._first.finditer(text))
        places = {start for start in starts if text.startswith(self._control, start)}
        for n in range(1, min(len(text), self._longest) + 1):
            # A neighbour in the template could complete what the edge of the text begins or ends.
            if text[-n:] in self._heads:
                places.add(len(text) - n)
            if text[:n] in self._tails:
                places.add(n - 1)
        if 0 < len(text) < self._longest and any(text in token for token in self._control):
            places.add(0)
        if not places:
            return text
        return "".join(self._stand_in[ord(c)] if i in places else c for i, c in enumerate(text))

    def unmark(self, text: str) -> str:
        """The original text."""
        return text.translate(self._original)

    def wrap(self, value: Any) -> Any:
        """Messages with every string that needs stand-ins turned into a `UserText`; the rest stays as it is."""
        if isinstance(value, str):
            return value if self.mark(value) == value else UserText(value, self)
        if isinstance(value, Mapping):
            return {self.wrap(key): self.wrap(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.wrap(item) for item in value]
        return value


class UserText(str):
    """A string whose characters are marked, and whose methods answer as the original would."""

    _plain: str
    _marker: Marker

    def __new__(cls, plain: str, marker: Marker) -> "UserText":
        text = super().__new__(cls, marker.mark(plain))
        text._plain = plain
        text._marker = marker
        return text

    def __hash__(self) -> int:
        return hash(self._plain)

    def __iter__(self):
        return (UserText(character, self._marker) for character in self._plain)


def _original(value: Any) -> Any:
    return value._plain if isinstance(value, UserText) else value


def _marked(value: Any, marker: Marker) -> Any:
    if isinstance(value, str):
        return UserText(value, marker)
    if isinstance(value, list | tuple):
        return type(value)(_marked(item, marker) for item in value)
    return value


def _on_original(name: str):
    method = getattr(str, name)

    def call(self: UserText, *args: Any) -> Any:
        return _marked(method(self._plain, *map(_original, args)), self._marker)

    call.__name__ = name
    return call


_METHODS = (
    "__contains__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __getitem__ strip lstrip rstrip split rsplit splitlines "
    "partition rpartition removeprefix removesuffix startswith endswith find rfind index rindex count replace lower "
    "upper title capitalize swapcase casefold"
)
for _name in _METHODS.split():
    setattr(UserText, _name, _on_original(_name))
