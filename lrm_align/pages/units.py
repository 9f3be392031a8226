"""Token ids to units: the shortest stretches of text that can be shown one by one.

Most tokens are a unit of their own. A letter whose bytes lie in several tokens makes those one unit. Every unit is
harmless text (`safe.shown`), also next to its neighbours.
"""

from collections.abc import Callable, Sequence

from lrm_align.pages import safe

Decode = Callable[[Sequence[int]], str]

_BROKEN = "\ufffd"  # what a decoder makes of a part of a letter
_LONGEST = 16  # tokens of a unit: damaged text would make one of thousands


class Vocabulary:
    """Numbers for units, so that a page names each once.

    Attributes:
      texts: of the units, by number; harmless.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._number: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a unit; its text is made harmless."""
        found = self._number.get(text)
        if found is None:
            found = self._number[text] = len(self.texts)
            self.texts.append(safe.shown(text))
        return found


class Cutter:
    """Cuts the ids of one tokenizer.

    Args:
      vocabulary: takes the units.
      decode: ids to text, special tokens included.
    """

    def __init__(self, vocabulary: Vocabulary, decode: Decode):
        self._vocabulary, self._decode = vocabulary, decode
        self._pieces: dict[int, str] = {}

    def units(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """(number, how many tokens) of each unit of a text, in order."""
        out: list[tuple[int, int]] = []
        start, height = 0, 0
        while start < len(ids):
            end, text = self._stretch(ids, start)
            height, text = _flat(text, height)
            out.append((self._vocabulary.number(text), end - start))
            start = end
        return out

    def _stretch(self, ids: Sequence[int], start: int) -> tuple[int, str]:
        text = self._piece(ids[start])
        end = start + 1
        if _BROKEN not in text:
            return end, text
        while end < len(ids) and end - start < _LONGEST and _BROKEN in self._piece(ids[end]):
            end += 1
        return end, self._decode(ids[start:end])

    def _piece(self, token: int) -> str:
        text = self._pieces.get(token)
        if text is None:
            text = self._pieces[token] = self._decode([token])
        return text


def of_text(text: str) -> list[str]:
    """Words with the white space before them, for texts whose tokens nobody kept.

    >>> of_text("a bc\\n d")
    ['a', ' bc', '\\n d']
    """
    out: list[str] = []
    for char in text:
        if not out or (char.isspace() and not out[-1][-1].isspace()):
            out.append(char)
        else:
            out[-1] += char
    return out


def _flat(text: str, height: int) -> tuple[int, str]:
    """Spells out marks that would stand on those of the units before; (marks at the end of the text, the text)."""
    if text.isascii():
        return 0 if text else height, text
    out = []
    for char in text:
        height = height + 1 if safe.is_mark(char) else 0
        out.append(char if height <= safe.STACKED else safe.spelled(char))
    return height, "".join(out)
