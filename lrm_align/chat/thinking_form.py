"""What a model's thinking looks like: found once, from its template and its vocabulary, or said by hand.

The marks of a thought are text. A tokenizer may have a token for each, or write them in several (SentencePiece's do);
which ones, depends on what stands beside them. So nothing here, and nothing that reads completions, looks for one id.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from lrm_align.chat.thinking import THINK_CLOSE, THINK_OPEN
from lrm_align.errors import UserError

BY_PROMPT, BY_MODEL, NOBODY = "the prompt", "the model", "nobody"
AUTO, NONE = "auto", "none"
# Marks in use: (begin, end). The first is everybody's; then OpenThinker's and Sky-T1's, Magistral's, Claude's style in
# distilled data, Seed-OSS's, Kimi-VL's, and what tuners take for themselves.
KNOWN = (
    (THINK_OPEN, THINK_CLOSE),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
)


class ThinkingForm(NamedTuple):
    """See above.

    Attributes:
      opened_by: who writes the mark of a thought's beginning: "the prompt", "the model", or "nobody": no thoughts.
      open: the mark of the beginning.
      close: the mark of the end.
      seen_in: where this was seen.
    """

    opened_by: str
    open: str
    close: str
    seen_in: str

    @property
    def thinks(self) -> bool:
        """Whether there are thoughts at all."""
        return self.opened_by != NOBODY

    def canonical(self, text: str) -> str:
        """A text with the marks `<think>` and `</think>` in place of the model's, as everything that reads text wants.

        >>> ThinkingForm(BY_MODEL, "[THINK]", "[/THINK]", "").canonical("[THINK]2 + 2[/THINK]4")
        '<think>2 + 2</think>4'
        """
        return text.replace(self.open, THINK_OPEN).replace(self.close, THINK_CLOSE) if self.thinks else text

    def describe(self, tokens: Callable[[str], int]) -> str:
        """A line for people.

        Args:
          tokens: how many a mark has.

        >>> ThinkingForm(BY_MODEL, "<think>", "</think>", "the vocabulary").describe(len)
        'thinking: opened by the model, <think> … </think> (7 and 8 tokens), as seen in the vocabulary'
        """
        if not self.thinks:
            return f"thinking: none, as seen in {self.seen_in}; the steps of such a model are those of its answer"
        marks = f"{self.open} … {self.close} ({tokens(self.open)} and {tokens(self.close)} tokens)"
        return f"thinking: opened by {self.opened_by}, {marks}, as seen in {self.seen_in}"


def find(said: str, opening: str, source: str, control: Collection[str]) -> ThinkingForm:
    """The form of a model.

    In this order: a prompt that ends with a mark tells (that of an end: thinking is switched off); then marks that are
    tokens of the vocabulary; then marks that the template writes or looks for.

    Args:
      said: `config.model.thinking`: "auto", "none", or the two marks with a blank or "…" between them.
      opening: how the template opens an answer.
      source: of the template.
      control: control tokens of the vocabulary.

    >>> find("auto", "<|assistant|>", "{{ messages[0]['content'] }}", ()).opened_by
    'nobody'
    >>> find("<r> </r>", "Answer:", "", ())
    ThinkingForm(opened_by='the model', open='<r>', close='</r>', seen_in='config.model.thinking')

    Raises:
      UserError: marks that are none.
    """
    if said == NONE:
        return ThinkingForm(NOBODY, THINK_OPEN, THINK_CLOSE, "config.model.thinking")
    pairs: Sequence[tuple[str, str]] = KNOWN if said == AUTO else (marks(said),)
    for begin, end in pairs:
        where = "config.model.thinking" if said != AUTO else "the prompt that its template writes"
        if opening.rstrip().endswith(begin):
            return ThinkingForm(BY_PROMPT, begin, end, where)
        if opening.rstrip().endswith(end):
            return ThinkingForm(NOBODY, begin, end, "the prompt that its template writes, which ends a thought")
    if said != AUTO:
        return ThinkingForm(BY_MODEL, *pairs[0], "config.model.thinking")
    for where, has in (("the vocabulary", control), ("the template", source)):
        for begin, end in pairs:
            if begin in has and end in has:
                return ThinkingForm(BY_MODEL, begin, end, where)
    return ThinkingForm(NOBODY, THINK_OPEN, THINK_CLOSE, "template and vocabulary")


def marks(said: str) -> tuple[str, str]:
    """The two marks of a setting.

    >>> marks("[THINK]…[/THINK]")
    ('[THINK]', '[/THINK]')

    Raises:
      UserError: not two, or both alike.
    """
    found = said.replace("…", " ").split()
    if len(found) != 2 or found[0] == found[1] or found[0] in found[1] or found[1] in found[0]:
        raise UserError(
            f'config.model.thinking is {said!r}; it must be "auto", "none", or the marks of a thought\'s beginning and '
            'end with a blank between them, such as "<think> </think>"'
        )
    return found[0], found[1]


def ends(text: Callable[[int], str], count: int, close: str) -> list[int]:
    """Where thoughts end: for each mark of an end, the number of tokens up to the one that completes it.

    Args:
      text: number of tokens to the text of the first so many; longer for more.
      count: of all tokens.
      close: the mark.

    >>> tokens = ["2", "</th", "ink", ">\\n", "4"]
    >>> ends(lambda n: "".join(tokens[:n]), 5, "</think>")
    [4]
    """
    found: list[int] = []
    for number in range(1, text(count).count(close) + 1):
        low, high = found[-1] if found else 0, count
        while low < high:  # the first number of tokens with so many marks
            middle = (low + high) // 2
            low, high = (low, middle) if text(middle).count(close) >= number else (middle + 1, high)
        found.append(low)
    return found
