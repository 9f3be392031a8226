"""How well a judge of refusals agrees with people: XSTest's completions with their labels (Röttger et al. 2024).

    python -m lrm_align.judging.agreement DIRECTORY [--model=PATH] [--count=450] [--dtype=float32]

DIRECTORY holds `xstest_v2_completions_*.csv` (arXiv 2308.01263; 450 completions of each of five models, labelled
1_full_compliance, 2_full_refusal or 3_partial_refusal). A sample is stratified by file and label, the same for every
judge. Without --model the keyword rules are measured.
"""

import argparse
import collections
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from lrm_align.chat.rows import read
from lrm_align.errors import UserError, command
from lrm_align.evals.statistics import wilson
from lrm_align.judging import prompted
from lrm_align.scoring import Score
from lrm_align.scoring.refusals import Keywords

LABELS = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")


class Labelled(NamedTuple):
    """A completion and what people say of it.

    Attributes:
      prompt: the request.
      response: the completion.
      label: one of `LABELS`.
      source: the file.
    """

    prompt: str
    response: str
    label: str
    source: str


def labelled(directory: epath.PathLike) -> list[Labelled]:
    """All completions of a directory that people labelled.

    Raises:
      UserError: no such files, or a label that is none.
    """
    found = []
    for path in sorted(epath.Path(directory).glob("xstest_v2_completions_*.csv")):
        for row in read(str(path)):
            if row["final_label"] not in LABELS:
                raise UserError(f"{path}: label {row['final_label']!r} is none of {', '.join(LABELS)}")
            found.append(Labelled(row["prompt"], row["completion"] or "", row["final_label"], path.name))
    if not found:
        raise UserError(f"{directory}: no file xstest_v2_completions_*.csv here")
    return found


def stratified(rows: Sequence[Labelled], count: int, seed: int = 0) -> list[Labelled]:
    """So many of them, each (file, label) in its proportion by largest remainders; all where `count` is 0 or more.

    >>> rows = [Labelled("", str(i), label, "a") for label, n in zip(LABELS, (6, 3, 1)) for i in range(n)]
    >>> [label[0] for _, _, label, _ in stratified(rows, 5)]
    ['1', '1', '1', '2', '2']
    """
    if not 0 < count < len(rows):
        return list(rows)
    strata: dict[tuple[str, str], list[Labelled]] = collections.defaultdict(list)
    for row in rows:
        strata[row.source, row.label].append(row)
    shares = {key: count * len(found) / len(rows) for key, found in sorted(strata.items())}
    sizes = {key: int(share) for key, share in shares.items()}
    for key in sorted(shares, key=lambda key: (sizes[key] - shares[key], key))[: count - sum(sizes.values())]:
        sizes[key] += 1
    random = np.random.default_rng(seed)
    chosen = {key: sorted(random.permutation(len(strata[key]))[:size].tolist()) for key, size in sizes.items()}
    return [strata[key][number] for key, numbers in chosen.items() for number in numbers]


def agreement(rows: Sequence[Labelled], scores: Sequence[Score]) -> dict[str, Any]:
    """Accuracy, recalls and undecided, by what counts as a refusal: full ones alone, or partial ones too.

    Undecided ones are in no rate.
    """
    out: dict[str, Any] = {"count": len(rows), "undecided": sum(not score.scored for score in scores)}
    for name, refused in (("full", LABELS[1:2]), ("full or partial", LABELS[1:])):
        pairs = [
            (row.label in refused, score.value >= 0.5)
            for row, score in zip(rows, scores, strict=True)
            if score.value is not None
        ]
        right = sum(said == found for said, found in pairs)
        out[name] = {
            "accuracy": right / len(pairs) if pairs else None,
            "interval": list(wilson(right / len(pairs), len(pairs))) if pairs else None,
            "recall of refusals": _share([found for said, found in pairs if said]),
            "recall of answers": _share([not found for said, found in pairs if not said]),
        }
    return out


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


@command
def main(argv: Sequence[str]) -> None:
    """Measures a judge and prints what it found."""
    parser = argparse.ArgumentParser("python -m lrm_align.judging.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("directory", help="of xstest_v2_completions_*.csv")
    parser.add_argument("--model", default="", help="directory or hub id of a chat model; the keyword rules without")
    parser.add_argument("--count", type=int, default=450, help="completions, stratified; 0 takes all")
    parser.add_argument("--dtype", default="float32", help="of a model's weights and activations")
    options = parser.parse_args(argv[1:])
    rows = stratified(labelled(options.directory), options.count)
    judge = prompted.load(options.model, dtype=options.dtype, question="refusal") if options.model else Keywords()
    started = time.perf_counter()
    scores = judge.score([row.prompt for row in rows], [row.response for row in rows])
    found = agreement(rows, scores)
    print(f"{judge.name}: {len(rows)} completions in {time.perf_counter() - started:.0f} s, "
          f"{found['undecided']} undecided")  # fmt: skip
    for name in ("full", "full or partial"):
        one = found[name]
        if one["accuracy"] is None:
            print(f"  {name} refusals: nothing decided")
            continue
        low, high = one["interval"]
        recalls = ", ".join(
            f"{key} {100 * one[key]:.1f} %"
            for key in ("recall of refusals", "recall of answers")
            if one[key] is not None
        )
        print(
            f"  {name} refusals: accuracy {100 * one['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], {recalls}"
        )


if __name__ == "__main__":
    main(sys.argv)
