"""User text that passes through a template without ever reading as a control token.

A template may trim, split or compare what users wrote, so their text cannot be cut out before rendering. Instead every
character that a control token is made of is swapped for a stand-in, a private code point that occurs nowhere else, in
all that users wrote. However the template cuts, joins or edits it, whatever reads as a control token afterwards was
written by the template alone. `UserText` is a string of that kind whose methods answer as the original would.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

# Two private-use planes of Unicode; no tokenizer or template gives them a meaning.
_PRIVATE = range(0xF0000, 0x10FFFE)


class Marker:
    """Swaps the characters of control tokens for stand-ins, and back; lengths stay the same.

    >>> marker = Marker(["<think>"], avoid="")
    >>> marked = marker.mark("say <think> or <th")
    >>> set("<think>") & set(marked), marker.unmark(marked)
    (set(), 'say <think> or <th')

    Args:
      control: the strings that must not be forged.
      avoid: text whose characters must not serve as stand-ins.

    Attributes:
      marks: pattern of a stand-in.
      text: the kind of `UserText` that has these.
    """

    def __init__(self, control: Collection[str], avoid: str):
        letters = sorted(set("".join(control)))
        taken = set(avoid)
        free = (chr(code) for code in _PRIVATE if chr(code) not in taken)
        self._stand_in = {ord(letter): next(free) for letter in letters}
        self._original = {ord(stand_in): chr(letter) for letter, stand_in in self._stand_in.items()}
        marks = "".join(self._stand_in.values())
        self.marks = re.compile(f"[{marks}]" if marks else "(?!)")
        self.text = type("MarkedText", (UserText,), {"marker": self})

    def stands_apart_from(self, text: str) -> bool:
        """Whether no stand-in occurs in the text."""
        return self.marks.search(text) is None

    def mark(self, text: str) -> str:
        """The text with stand-ins."""
        return str.translate(text, self._stand_in)

    def unmark(self, text: str) -> str:
        """The original text."""
        return str.translate(text, self._original)

    def is_mark(self, character: str) -> bool:
        """Whether a character is a stand-in."""
        return ord(character) in self._original

    def is_letter(self, text: str) -> bool:
        """Whether any character of a text is one that control tokens are made of."""
        return any(ord(character) in self._stand_in for character in text)

    def wrap(self, value: Any) -> Any:
        """Plain values with every string, keys included, turned into a `UserText`."""
        if isinstance(value, str):
            return self.text(self.mark(value))
        if isinstance(value, Mapping):
            return {self.wrap(key): self.wrap(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.wrap(item) for item in value]
        return value

    def tracked(self, value: Any) -> Any:
        """A value that lost its kind in a function of Python's own: strings with stand-ins are `UserText` again."""
        if type(value) is str:
            return value if self.marks.search(value) is None else self.text(value)
        if type(value) in (list, tuple):
            return type(value)(map(self.tracked, value))
        return value


class UserText(str):
    """A string in which stand-ins mark what a user wrote, and whose methods answer as the original would.

    Parts keep their marks, and so do strings put together out of marked and other ones. A character that a method
    changes (`lower`, `translate`) is marked where it could be part of a control token.
    """

    marker: ClassVar[Marker]

    @property
    def plain(self) -> str:
        """The original."""
        return self.marker.unmark(self)

    def __str__(self) -> str:
        return self  # `str(text)` must not take the marks' meaning away

    def __repr__(self) -> str:
        return type(self)(self.marker.mark(repr(self.plain)))

    def __hash__(self) -> int:
        return hash(self.plain)

    def __iter__(self):
        return map(type(self), str.__iter__(self))

    def __getitem__(self, where: Any) -> str:
        return type(self)(str.__getitem__(self, where))

    def __radd__(self, other: str) -> str:
        return type(self)(str.__add__(other, self)) if isinstance(other, str) else NotImplemented

    def __rmod__(self, other: str) -> str:
        return type(self)(str.__mod__(other, self)) if isinstance(other, str) else NotImplemented

    def _cut(self, start: int, length: int) -> str:
        return self[start : start + length]

    def strip(self, *chars: Any) -> str:
        return self.lstrip(*chars).rstrip(*chars)

    def lstrip(self, *chars: Any) -> str:
        left = self.plain.lstrip(*map(_original, chars))
        return self[len(self) - len(left) :]

    def rstrip(self, *chars: Any) -> str:
        return self._cut(0, len(self.plain.rstrip(*map(_original, chars))))

    def removeprefix(self, prefix: str, /) -> str:
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return self._cut(0, len(self) - len(suffix)) if suffix and self.endswith(suffix) else self

    def split(self, sep: Any = None, maxsplit: Any = -1) -> list[str]:
        return self._pieces(self.plain.split(_original(sep), maxsplit), sep)

    def rsplit(self, sep: Any = None, maxsplit: Any = -1) -> list[str]:
        return self._pieces(self.plain.rsplit(_original(sep), maxsplit), sep)

    def _pieces(self, found: list[str], sep: Any) -> list[str]:
        """The parts of this text that `found` are, given what stands between them: a separator, or white space."""
        plain, at, pieces = self.plain, 0, []
        for piece in found:
            # A part never begins with white space unless the whole text does, so that the first place is the right one.
            start = at if sep is not None else plain.index(piece, at)
            pieces.append(self._cut(start, len(piece)))
            at = start + len(piece) + (0 if sep is None else len(sep))
        return pieces

    def splitlines(self, keepends: bool = False) -> list[str]:
        at, lines = 0, []
        for whole, line in zip(self.plain.splitlines(True), self.plain.splitlines(keepends), strict=True):
            lines.append(self._cut(at, len(line)))
            at += len(whole)
        return lines

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, _ = self.plain.partition(_original(sep))
        return self._three(len(head), len(middle))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, _ = self.plain.rpartition(_original(sep))
        return self._three(len(head), len(middle))

    def _three(self, first: int, second: int) -> tuple[str, str, str]:
        return self[:first], self._cut(first, second), self[first + second :]

    def replace(self, old: str, new: str, count: Any = -1, /) -> str:
        plain, wanted = self.plain, _original(old)
        at, parts = 0, []
        # Where Python puts the replacements is told by a character that occurs nowhere in the text.
        mark = next(chr(code) for code in _PRIVATE if chr(code) not in plain)
        for part in plain.replace(wanted, mark, count).split(mark):
            parts += [str.__getitem__(self, slice(at, at + len(part))), str.__add__("", new)]
            at += len(part) + len(wanted)
        return type(self)("".join(parts[:-1]))

    def _changed(self, change: Callable[[str], str]) -> str:
        """The text with its characters changed; all of it is taken for the user's where its length changes."""
        plain = self.plain
        whole = change(plain)
        if len(whole) != len(plain):
            return type(self)(self.marker.mark(whole))
        parts = []
        for raw, before, after in zip(str.__iter__(self), plain, whole, strict=True):
            ours = self.marker.is_mark(raw) or (after != before and self.marker.is_letter(after))
            parts.append(self.marker.mark(after) if ours else after)
        return type(self)("".join(parts))

    def translate(self, table: Any, /) -> str:
        return self._changed(lambda text: text.translate(table))

    def __format__(self, spec: str) -> str:
        return str.__format__(self, _original(spec))


def _original(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_original, value))
    return value.plain if isinstance(value, UserText) else value


def _answered(name: str) -> Callable[..., Any]:
    """A method that tells something about the text: the original is asked."""
    method = getattr(str, name)

    @functools.wraps(method)
    def call(self: UserText, *args: Any) -> Any:
        return method(self.plain, *map(_original, args))

    return call


def _cased(name: str) -> Callable[..., str]:
    """A method that changes single characters."""
    method = getattr(str, name)

    @functools.wraps(method)
    def call(self: UserText) -> str:
        return self._changed(method)

    return call


def _laid_out(name: str) -> Callable[..., str]:
    """A method that takes the text as a whole: marks stay where they are."""
    method = getattr(str, name)

    @functools.wraps(method)
    def call(self: UserText, *args: Any, **kwargs: Any) -> str:
        return type(self)(method(self, *args, **kwargs))

    return call


ANSWERED = (
    "__contains__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ count endswith find index isalnum isalpha isascii "
    "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper rfind rindex startswith"
)
CASED = "capitalize casefold lower swapcase title upper"
LAID_OUT = "__add__ __mul__ __rmul__ __mod__ center expandtabs join ljust rjust zfill"
for _names, _make in ((ANSWERED, _answered), (CASED, _cased), (LAID_OUT, _laid_out)):
    for _name in _names.split():
        setattr(UserText, _name, _make(_name))
