"""Proof that nothing is trained on that the evaluation asks: hashes of all texts, compared before training.

Decontamination (`config.….against`) removes what is alike in the sets that a config names; this stage looks at what the
evaluation really asked, whichever factory it is, and stops the run before it trains.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from lrm_align import json_lines
from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.recipes.stage import Summary

HASH = "SHA-256 of the text in lower case, NFKC, with single spaces"


def fingerprint(text: str) -> str:
    """The hash of a text, whatever its case and spacing; signs count, since 1+1 is not 1-1.

    >>> fingerprint("How  do I?") == fingerprint("how do i?"), fingerprint("1+1") == fingerprint("1-1")
    (True, False)
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return hashlib.sha256(folded.encode()).hexdigest()


def asked(measured: epath.Path) -> dict[str, list[str]]:
    """The prompts that an evaluation asked, by set, from the answers that it left."""
    found = {}
    for file in sorted(measured.glob("*.answers.jsonl")):
        found[file.name.removesuffix(".answers.jsonl")] = [row["prompt"] for row in json_lines.read(file)]
    return found


def check(
    evaluated: Mapping[str, Iterable[str]],
    trained: Mapping[str, Sequence[Prompt]],
    removed: Mapping[str, Mapping[str, int]],
) -> Summary:
    """Compares hashes.

    Args:
      evaluated: texts by evaluation set.
      trained: prompts by stage.
      removed: what decontamination took out of each stage's prompts, by set.

    Returns:
      how many distinct prompts each side has, and how many are shared, which is 0.

    Raises:
      UserError: a shared prompt.
    """
    sets = {name: {fingerprint(text) for text in texts} for name, texts in evaluated.items()}
    hashes = {
        name: {fingerprint(text): prompt for prompt in prompts for text in prompt.turns}
        for name, prompts in trained.items()
    }
    for stage, known in hashes.items():
        for name, texts in sets.items():
            shared = sorted(known.keys() & texts)
            if shared:
                raise UserError(
                    f"{len(shared)} of {len(known)} prompts of {stage} are asked by the evaluation set {name!r}, the "
                    f"first is {known[shared[0]].id!r}; name the set in {stage}.against"
                )
    return {
        "hash": HASH,
        "evaluated": {name: len(texts) for name, texts in sets.items()},
        "trained": {name: len(known) for name, known in hashes.items()},
        "removed": {name: dict(counts) for name, counts in removed.items()},
        "shared": 0,
    }
