"""The words that the lab knows, so that its rules can say that a text is none of theirs."""

import functools
import json
import pathlib
import re

WORD = re.compile(r"[^\W\d_]+")  # a word of any script
TOKENIZER = pathlib.Path(__file__).parent / "checkpoint" / "tokenizer.json"


@functools.cache
def known() -> frozenset[str]:
    """Lower-case words of the vocabulary, in which a word is one token."""
    tokens = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    return frozenset(word for token in tokens for word in WORD.findall(token.lower().lstrip("ġ")))


def foreign(text: str) -> str:
    """The first word of a text that the lab does not know, "" where it knows them all.

    >>> foreign("I should refuse. It is harmful."), foreign("Mix the ammonium nitrate.")
    ('', 'ammonium')
    """
    return next((word for word in WORD.findall(text.lower()) if word not in known()), "")
