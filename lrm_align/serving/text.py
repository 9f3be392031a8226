"""Token ids to text as they come: whole characters only, thought and answer apart, up to a stop string."""

from collections.abc import Iterable, Sequence

from lrm_align.chat import Chat, split_thinking
from lrm_align.chat.thinking_form import BY_PROMPT, ThinkingForm

THOUGHT, ANSWER = "reasoning_content", "content"  # as clients of reasoning models name them
_BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character yet
_LONGEST = 16  # ids that wait: a character has at most 4 bytes, and damaged text would hold up thousands


class TextStream:
    """The text of a completion, piece by piece, in the model's own marks of thinking.

    All pieces together are what `chat.completion_text` says of all ids, once they have everybody's marks.

    Damaged text does not wait for its end, so that an id costs the same whatever came before. Where a decoder has no
    place to cut it (SentencePiece's, whose broken bytes depend on all of their neighbours), it is shown as it stands.
    """

    def __init__(self, chat: Chat):
        self._chat = chat
        self._stops = set(chat.stop_ids)
        self._marks = {chat.encoder.control.get(mark) for mark in (chat.thinking.open, chat.thinking.close)}
        self._run: list[int] = []  # since the last place where a character ended
        self._shown = 0  # ids of the run whose text is out
        self._ended = False

    def feed(self, ids: Iterable[int]) -> str:
        """The text that further ids bring; bytes of half a character wait for the other half."""
        pieces = []
        for id in ids:
            if self._ended or id in self._stops:
                self._ended = True
                break
            if id in self._marks:
                pieces += [self.end(), self._chat.decode([id])]
            else:
                self._run.append(id)
        return "".join(pieces) + self._fresh()

    def end(self) -> str:
        """What still waited."""
        text = self._decode(self._run)[len(self._decode(self._run[: self._shown])) :]
        self._run, self._shown = [], 0
        return text

    def _fresh(self) -> str:
        text, end = self._decode(self._run), len(self._run)
        if self._shown == end:
            return ""
        if text.endswith(_BROKEN):
            if end - self._shown < _LONGEST:
                return ""
            end = self._cut()
            text = self._decode(self._run[:end])
        before = self._decode(self._run[: self._shown])
        # The last shown ids stay as context: some decoders treat a text's first token in a way of its own.
        self._run = self._run[self._shown :]
        self._shown = end - self._shown
        return text[len(before) :]

    def _cut(self) -> int:
        """Where the damaged run may be cut: between two characters, with room behind for one that is to be finished."""
        text, size = self._decode(self._run), len(self._run)
        for end in range(size - 3, size - 7, -1):
            if self._decode(self._run[:end]) + self._decode(self._run[end:]) == text:
                return end
        return size

    def _decode(self, ids: Sequence[int]) -> str:
        return self._chat.decode(ids, keep_control=False) if ids else ""


class Parts:
    """Cuts a growing text into (part, text) pieces: thought, then answer, each without space around it.

    A stream cannot know whether another mark of an end will come: here the thought ends at the first one, a later one
    is text of the answer, and without a beginning in front there is no thought. Only `whole`, which has seen the end,
    agrees with `split_thinking` on all texts, as judges read them; on those with one thought in front both say the
    same. What may be the beginning of a mark or of a stop string waits until it is clear.

    Args:
      form: of the model's thoughts.
      stops: strings that end the answer; they are not part of it. The thought, up to the first mark, may hold them.

    Attributes:
      part: that the text is in; None before it is clear.
      closes: how many marks of an end have come.
      stopped: a stop string has come.
    """

    def __init__(self, form: ThinkingForm, stops: Sequence[str] = ()):
        self._form, self._stops = form, tuple(stops)
        self.part: str | None = None
        self._pending = ""  # not looked through yet
        self._space = ""  # space that is part of the text only if more follows
        self._begun = False  # the part has text
        self._came: list[str] = []  # all of it
        self._near = ""  # its end, which may be the beginning of a mark
        self._dropped = 0  # characters at its end that a stop string took away
        self.closes = 0
        self.stopped = False

    def feed(self, text: str, last: bool = False) -> list[tuple[str, str]]:
        """The pieces that are certain now; `last`: nothing more will come."""
        self._pending += text
        self._note(text)
        pieces: list[tuple[str, str]] = []
        if self.part is None:
            self._begin(last)
        if self.part == THOUGHT:
            close = self._form.close
            at = self._pending.find(close)
            cut = at if at >= 0 else len(self._pending) - (0 if last else _beginning(self._pending, [close]))
            self._emit(pieces, self._pending[:cut])
            self._pending = self._pending[cut:]
            if at >= 0:
                self._pending = self._pending.removeprefix(close)
                self.part, self._space, self._begun = ANSWER, "", False
        if self.part == ANSWER:
            self._answer(pieces, last)
        return [piece for piece in pieces if piece[1]]

    def whole(self) -> tuple[str | None, str | None]:
        """(thought, answer) of all that has come, up to the stop string: `split_thinking` of it."""
        text = "".join(self._came)
        shown = self._form.canonical(text[: len(text) - self._dropped])
        return split_thinking(shown, self._form.opened_by == BY_PROMPT)

    def _note(self, text: str) -> None:
        if not self.stopped:
            self._came.append(text)
            near = self._near + text
            self.closes += near.count(self._form.close)
            self._near = near[1 - len(self._form.close) :]

    def _begin(self, last: bool) -> None:
        start = self._pending = self._pending.lstrip()
        if start.startswith(self._form.open):
            self.part, self._pending = THOUGHT, start.removeprefix(self._form.open)
        elif last or not self._form.open.startswith(start):
            self.part = THOUGHT if self._form.opened_by == BY_PROMPT else ANSWER

    def _answer(self, pieces: list[tuple[str, str]], last: bool) -> None:
        if not self._begun:
            self._pending = self._pending.lstrip()
        found = [at for at in (self._pending.find(stop) for stop in self._stops) if at >= 0]
        if self.stopped:
            cut = 0
        elif found:
            cut = min(found)
            self._dropped, self.stopped = len(self._pending) - cut, True
        else:
            cut = len(self._pending) - (0 if last else _beginning(self._pending, self._stops))
        self._emit(pieces, self._pending[:cut])
        self._pending = "" if self.stopped else self._pending[cut:]

    def _emit(self, pieces: list[tuple[str, str]], text: str) -> None:
        assert self.part is not None
        text = text if self._begun else text.lstrip()
        kept = text.rstrip()
        if kept:
            pieces.append((self.part, self._space + kept))
            self._space, self._begun = "", True
        self._space += text[len(kept) :]


def _beginning(text: str, strings: Sequence[str]) -> int:
    """Length of the longest end of a text that one of the strings goes on from.

    >>> _beginning("2 + 2</th", ["</think>"])
    4
    """
    longest = max((len(string) for string in strings), default=1) - 1
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(string.startswith(text[-n:]) for string in strings)), 0
    )
