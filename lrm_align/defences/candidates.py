"""Candidate words for SafeThink: which there are, which of them to grow, and how measured ones are ranked.

Ghosal et al. 2026, arXiv 2602.11096: the words are fixed and found offline, among candidates of 1 to 5 tokens that
GPT-4 wrote, by a criterion of safety and KL on validation prompts; "Wait, think safely" is what was found. Formula,
weight and candidates are not printed. Ours: candidates are given texts, their pieces, and what grows from the best of
these token by token; the criterion is gain - λ·KL, and the Pareto front shows what another λ would choose.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lrm_align.chat import Chat
from lrm_align.errors import UserError

MOST_TOKENS = 5  # the paper's


class Measured(NamedTuple):
    """A candidate with what it does.

    Attributes:
      text: the words.
      tokens: how many they are, at the head of a thought.
      gain: mean R of the step after them minus that of the same step drawn again without them, in [-2, 2].
      gain_error: standard error of the mean over prompts.
      kl: how far they move the model where nothing is wrong, nats a token.
      kl_error: standard error of the mean over prompts.
      safe_rate: share of the steps after them that SafeThink accepts.
      unscored_rate: share of these steps that the guard could not judge.
    """

    text: str
    tokens: int
    gain: float
    gain_error: float
    kl: float
    kl_error: float
    safe_rate: float
    unscored_rate: float

    def objective(self, weight: float) -> float:
        """gain - λ·KL.

        >>> Measured("Wait", 1, 1.5, 0.1, 0.5, 0.1, 1.0, 0.0).objective(0.5)
        1.25
        """
        return self.gain - weight * self.kl


def length(chat: Chat, text: str) -> int:
    """Tokens of words at the head of a thought; after other text a tokenizer may need more or fewer."""
    return len(chat.encode_plain(text))


def given(chat: Chat, texts: Sequence[str], most: int = MOST_TOKENS) -> list[str]:
    """The texts of a config, each once.

    Raises:
      UserError: there are none, one that says nothing, or one of more tokens than candidates may have.
    """
    if not texts:
        raise UserError(f"config.search.texts is empty; name at least one candidate of 1 to {most} tokens")
    for text in texts:
        if not _says(text):
            raise UserError(f"config.search.texts holds {text!r}, which says nothing; a candidate is words")
        if length(chat, text) > most:
            shown = " ".join(repr(chat.decode([i])) for i in chat.encode_plain(text))
            raise UserError(
                f"config.search.texts: {text!r} has {length(chat, text)} tokens ({shown}); candidates have 1 to {most}"
            )
    return list(dict.fromkeys(text.strip() for text in texts))


def pieces(chat: Chat, texts: Iterable[str], most: int = MOST_TOKENS) -> list[str]:
    """Every run of 1 to `most` tokens of the texts that is whole words, each once and without the texts themselves."""
    texts = list(texts)
    found = [
        chat.decode(ids[start : start + size]).strip()
        for ids in map(chat.encode_plain, texts)
        for size in range(1, most + 1)
        for start in range(len(ids) - size + 1)
        if not any(_inside_a_word(chat.decode(ids[:end]), chat.decode(ids[end:])) for end in (start, start + size))
    ]
    return [text for text in dict.fromkeys(found) if text not in texts and _sound(chat, text, most)]


def pool(chat: Chat, texts: Iterable[str]) -> list[str]:
    """The tokens of the texts as they stand after other text, each once: what candidates grow by.

    Tokens that would go on with a word are left out.
    """
    tokens = [chat.decode([i]) for text in texts for i in chat.encode_plain(f" {text}")]
    whole = [token for token in dict.fromkeys(tokens) if token.strip() and "�" not in token]
    return [token for token in whole if not token[0].isalnum()]


def grown(chat: Chat, texts: Iterable[str], tokens: Sequence[str], most: int = MOST_TOKENS) -> list[str]:
    """The texts with each token behind them, each once, where there is room for it; no word twice in a row."""
    found = dict.fromkeys(text + token for text in texts for token in tokens if not text.endswith(token.strip()))
    return [text for text in found if _sound(chat, text, most)]


def search(
    first: Sequence[str],
    measure: Callable[[int, Sequence[str]], Sequence[Measured]],
    grow: Callable[[Sequence[str]], Sequence[str]],
    *,
    beam: int,
    rounds: int,
    weight: float,
) -> list[Measured]:
    """Measures the first candidates, then in every round what grows from the best of all.

    Args:
      first: candidates of round 0.
      measure: (number of the round, candidates) to them measured, in order.
      grow: candidates to longer ones; none for those that have no room.
      beam: how many grow in a round; 0 grows none.
      rounds: at most, after the first; fewer where nothing new grows.
      weight: λ.

    Returns:
      all that were measured, each once, in order.
    """
    measured = {one.text: one for one in measure(0, first)}
    for number in range(1, rounds + 1):
        growing = [text for text in (one.text for one in ranked(measured.values(), weight)) if grow([text])][:beam]
        new = [text for text in grow(growing) if text not in measured] if growing else []
        if not new:
            break
        measured |= {one.text: one for one in measure(number, new)}
    return list(measured.values())


def ranked(measured: Iterable[Measured], weight: float) -> list[Measured]:
    """The best first, by gain - λ·KL; of equals the shorter one.

    >>> a, b = (Measured(t, 1, gain, 0, kl, 0, 1, 0) for t, gain, kl in (("a", 1.0, 0.1), ("b", 1.2, 0.9)))
    >>> [one.text for one in ranked([a, b], 0.0)], [one.text for one in ranked([a, b], 1.0)]
    (['b', 'a'], ['a', 'b'])
    """
    return sorted(measured, key=lambda one: (-one.objective(weight), one.tokens, one.text))


def front(measured: Iterable[Measured]) -> set[str]:
    """The texts of the Pareto front: no other gains as much for less KL, or more for as little.

    >>> points = (("a", 1.0, 0.1), ("b", 1.2, 0.9), ("worse", 0.9, 0.2))
    >>> sorted(front([Measured(t, 1, gain, 0, kl, 0, 1, 0) for t, gain, kl in points]))
    ['a', 'b']
    """
    measured = list(measured)
    return {one.text for one in measured if not any(_beats(other, one) for other in measured)}


def _beats(a: Measured, b: Measured) -> bool:
    return a.gain >= b.gain and a.kl <= b.kl and (a.gain, a.kl) != (b.gain, b.kl)


def _sound(chat: Chat, text: str, most: int) -> bool:
    return _says(text) and "�" not in text and 1 <= length(chat, text) <= most


def _says(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _inside_a_word(before: str, after: str) -> bool:
    return before[-1:].isalnum() and after[:1].isalnum()
