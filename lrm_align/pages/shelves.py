"""Where the traces of runs lie: one shelf for each set of prompts that a stage of a method answered."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from lrm_align import json_lines, stamps
from lrm_align.pages.run import Part, Run
from lrm_align.traces import Shard, list_shards

Key = tuple[str, int]

# Where a stage's verdicts stand: beside its own files, or with the stage that filters what it sampled.
_JUDGED_BY = {"sample": "filter", "audit": "assemble"}
_PREFIX = "traces-"  # of sampled shards; those of training data repeat them
# What a judge's yes and no mean, by the metric that counts them.
_WORDS = {
    "attack_success_rate": ("unsafe", "safe"),
    "over_refusal_rate": ("refuse", "answered"),
    "accuracy": ("correct", "wrong"),
}
_HIT = 0.5  # as evals.summary.HIT
_ROLLOUTS = "rollouts.jsonl"


class Shelf(NamedTuple):
    """The traces of one set.

    Attributes:
      run: the workdir.
      method: what the page calls the method.
      stage, set: of the run.
      shards: of the traces.
      rows: samples that were kept as text instead.
      verdicts: what judges said: `{"verdict": …, scorer: number}`, by prompt and sample.
    """

    run: epath.Path
    method: str
    stage: str
    set: str
    shards: list[Shard]
    rows: list[dict[str, Any]]
    verdicts: Mapping[Key, Mapping[str, Any]]

    @property
    def keys(self) -> list[Key]:
        """Prompt and sample of every trace in shards; numbers of the rows."""
        return [key for shard in self.shards for key in shard.manifest.keys] or [("", i) for i in range(len(self.rows))]

    @property
    def size(self) -> int:
        """Traces on it."""
        return len(self.rows) + sum(shard.manifest.count for shard in self.shards)

    @property
    def lengths(self) -> np.ndarray:
        """(count, 2) tokens of prompts and completions of the traces in shards."""
        return np.array([length for shard in self.shards for length in shard.manifest.lengths], int).reshape(-1, 2)


def of(run: Run, alone: bool) -> list[Shelf]:
    """The shelves of a run: evaluations first, what people look for.

    Raises:
      UserError: a damaged manifest.
    """
    found = [shelf for part in run.parts for shelf in _of_part(run, part, run.label(part, alone))]
    return sorted(found, key=lambda shelf: not shelf.set)


def _of_part(run: Run, part: Part, method: str) -> list[Shelf]:
    found = []

    def add(stage: str, name: str, shards: list[Shard], said: Mapping[Key, Mapping[str, Any]], rows: list[Any]) -> None:
        found.append(Shelf(run.directory, method, stage, name, shards, rows, said))

    for stage, directory in part.stages.items():
        shards = _sampled(directory)
        if shards:
            judge = part.stages.get(f"{stage}-verdicts")
            if judge is not None:
                add(stage, "", shards, _judged(judge), [])
            else:
                add(stage, "", shards, _verdicts(part.stages.get(_JUDGED_BY.get(stage, ""), directory), shards), [])
        for place in _sets(directory):
            add(stage, "/".join(place.relative_to(directory).parts), _sampled(place), _answers(place), [])
        rows = json_lines.read_objects(directory / _ROLLOUTS)
        if rows:
            add(stage, "", [], {}, rows)
    return found


def _sampled(directory: epath.Path) -> list[Shard]:
    return [shard for shard in list_shards(directory) if shard.manifest.name.startswith(_PREFIX)]


def _sets(directory: epath.Path, depth: int = 2) -> list[epath.Path]:
    """The directories of an evaluation's sets; an ablation has one more above them."""
    found = []
    for place in sorted(child for child in directory.iterdir() if child.is_dir()):
        if _sampled(place):
            found.append(place)
        elif depth > 1:
            found += _sets(place, depth - 1)
    return found


def _judged(directory: epath.Path) -> dict[Key, dict[str, Any]]:
    """What an evaluation's judge wrote: objects with the prompt's id, the sample's number, a value and its parts."""
    stamp = stamps.read(directory) or {}
    hit, miss = _WORDS.get(str((stamp.get("summary") or {}).get("metric")), ("yes", "no"))
    found: dict[Key, dict[str, Any]] = {}
    for file in sorted(directory.glob("verdicts-*.jsonl")):
        for row in json_lines.read_objects(file):
            value, parts = row.get("value"), row.get("parts")
            if isinstance(value, (int, float)):
                said: dict[str, Any] = {"verdict": hit if value >= _HIT else miss, "judge": value}
            else:
                said = {"verdict": "undecided"}
            key = str(row.get("id")), int(row.get("sample") or 0)
            found[key] = {**(parts if isinstance(parts, dict) else {}), **said}
    return found


def _verdicts(directory: epath.Path, shards: Sequence[Shard]) -> dict[Key, dict[str, Any]]:
    """What a filter wrote of these shards: lines of [prompt, sample, outcome, p(unsafe), detail]."""
    found: dict[Key, dict[str, Any]] = {}
    for shard in shards:
        path = directory / f"{shard.manifest.name}.verdicts.jsonl"
        for row in json_lines.read(path) if path.exists() else ():
            if isinstance(row, list) and len(row) >= 4 and isinstance(row[0], str) and isinstance(row[1], int):
                found[row[0], row[1]] = {"verdict": row[2], "p(unsafe)": row[3]}
    return found


def _answers(place: epath.Path) -> dict[Key, dict[str, Any]]:
    """What an evaluation wrote of its answers beside a set: objects with the prompt's id, and a verdict perhaps."""
    found: dict[Key, dict[str, Any]] = {}
    for file in (f"{place.name}.answers.jsonl", f"{place.name}.verdicts.jsonl"):
        for row in json_lines.read_objects(place.parent / file):
            known = {key: value for key, value in row.items() if isinstance(value, (int, float, str))}
            for unused in ("prompt", "text", "id", "sample", "finished"):
                known.pop(unused, None)
            found.setdefault((str(row.get("id")), int(row.get("sample") or 0)), {}).update(known)
    return found


def chosen(shelves: Sequence[Shelf], traces: int, tokens: int) -> list[frozenset[Key]]:
    """Which traces of each shelf are shown: all where they are few, else evenly spaced ones by key.

    Shelves of the same prompts are cut alike, so that models' answers still stand side by side.

    Args:
      shelves: of all runs.
      traces: at most, of all.
      tokens: at most, of all.
    """
    counts = [shelf.size for shelf in shelves]
    sizes = [int(shelf.lengths.sum()) for shelf in shelves]
    most = limit(counts, traces)
    while most > 1 and sum(s * min(1.0, most / max(c, 1)) for s, c in zip(sizes, counts)) > tokens:
        most = most * 9 // 10
    return [frozenset(_spaced(sorted(shelf.keys), most)) for shelf in shelves]


def limit(counts: Sequence[int], total: int) -> int:
    """The largest share m for which Σ min(count, m) ≤ total.

    >>> limit([10, 100, 100], 90), limit([3], 90)
    (40, 3)
    """
    left, most = total, 0
    for index, count in enumerate(sorted(counts)):
        share = left // (len(counts) - index)
        most = min(count, share)
        if count > share:
            return share
        left -= count
    return most


def _spaced(keys: Sequence[Key], most: int) -> list[Key]:
    if len(keys) <= most:
        return list(keys)
    return [keys[index * len(keys) // most] for index in range(most)]
