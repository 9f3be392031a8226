"""Prompts that an evaluation will ask must not be trained on."""

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from lrm_align.chat.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What decontamination found.

    Attributes:
      checked: prompts looked at.
      dropped: prompts removed; each counts once.
      by_set: matches with each evaluation set; a prompt may count in several.
    """

    checked: int
    dropped: int
    by_set: Mapping[str, int]


def normalise(text: str) -> str:
    """Lower case, compatibility forms unified (NFKC), no punctuation or symbols, single spaces.

    >>> normalise("How do I\\n pick a LOCK?"), normalise("ｈｏｗ do I pick — a lock")
    ('how do i pick a lock', 'how do i pick a lock')
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    return " ".join("".join(c for c in folded if unicodedata.category(c)[0] not in "PS").split())


def decontaminate(prompts: Sequence[Prompt], against: Mapping[str, Iterable[str]]) -> tuple[list[Prompt], Overlap]:
    """Removes prompts equal to a text of an evaluation set after `normalise`; of a conversation any turn may be.

    Args:
      prompts: for training.
      against: evaluation texts by the name of their set.

    Returns:
      The prompts that are left, in order, and the counts.
    """
    # A text of nothing but punctuation normalises to "", which must not match every other such text.
    sets = {name: {normalise(text) for text in texts} - {""} for name, texts in against.items()}
    kept = []
    by_set = dict.fromkeys(sets, 0)
    for prompt in prompts:
        turns = {normalise(text) for text in prompt.turns}
        hits = [name for name, texts in sets.items() if turns & texts]
        for name in hits:
            by_set[name] += 1
        if not hits:
            kept.append(prompt)
    return kept, Overlap(checked=len(prompts), dropped=len(prompts) - len(kept), by_set=by_set)
