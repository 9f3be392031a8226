"""What a workdir holds: its report, and the directories of its stages, of every method and seed."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from lrm_align import stamps, untrusted
from lrm_align.errors import UserError

LARGEST = 256 * untrusted.MEBIBYTE  # of a report
_STAGE = re.compile(r"(.+)-[0-9a-f]{10}")
_SEED = re.compile(r"seed_\d+")


class Part(NamedTuple):
    """The stages of one method with one seed.

    Attributes:
      name: as people call it; "" where a run is one method with one seed.
      stages: where each stage left its files, by its name, in the order in which they were finished.
    """

    name: str
    stages: Mapping[str, epath.Path]


class Run(NamedTuple):
    """A workdir.

    Attributes:
      name: short, and unique among runs side by side.
      directory: the workdir.
      report: of `report.json`, or what its finished stages say.
      config: the resolved config of `run.json`; {} where there is none.
      parts: its methods or seeds.
    """

    name: str
    directory: epath.Path
    report: dict[str, Any]
    config: Mapping[str, Any]
    parts: list[Part]

    def label(self, part: Part, alone: bool) -> str:
        """What a part is called on a page that shows this run alone, or several."""
        if alone:
            return part.name or str(self.report.get("title", self.name))
        return f"{self.name} {part.name}".strip()


def read(directory: epath.Path, name: str = "", report: Mapping[str, Any] | None = None) -> Run:
    """Reads a workdir, finished or not.

    Args:
      directory: the workdir.
      name: what the run is called; as the directory where "".
      report: the report, where it is at hand.

    Raises:
      UserError: no run is there, or its report is damaged.
    """
    known = dict(report) if report is not None else read_object(directory / "report.json")
    parts = _parts(directory, known or {})
    if known is None:
        known = _unfinished(directory, parts)
        if not known:
            raise UserError(
                f"{directory} has no report.json and no finished measurement; run python -m lrm_align.main first"
            )
    facts = read_object(directory / "run.json") or _of_a_seed(directory)
    return Run(name or directory.name, directory, known, facts.get("config") or {}, parts)


def read_object(path: epath.Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file.

    Raises:
      UserError: the file holds something else, or is none.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(untrusted.read_text(path, LARGEST))  # not strictly: a config may hold an infinity
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}; an object would be right")
    return found


def names(directories: list[epath.Path]) -> list[str]:
    """Short names of workdirs: their own, with those above where two share one.

    >>> names([epath.Path("a/run"), epath.Path("b/run"), epath.Path("b/other")])
    ['a/run', 'b/run', 'b/other']
    """
    depth = 1
    while depth < 9:
        found = ["/".join(directory.parts[-depth:]) for directory in directories]
        if len(set(found)) == len(found):
            return found
        depth += 1
    raise UserError(f"{directories[0]} is named twice; side by side stand different workdirs")


def _parts(directory: epath.Path, report: Mapping[str, Any]) -> list[Part]:
    seeds = sorted(child for child in _children(directory) if _SEED.fullmatch(child.name))
    if seeds and ("seeds" in report or not _stages(directory, {})):
        return [
            Part(f"{part.name} {seed.name.replace('_', ' ')}".strip(), part.stages)
            for seed in seeds
            for part in _parts(seed, {})
        ]
    stages = _stages(directory, report.get("stages") or {})
    inside = {name: _stages(place, {}) for name, place in stages.items()}
    if not any(inside.values()):
        return [Part("", stages)]
    return [Part(name, inside[name] or {name: place}) for name, place in stages.items()]


def _stages(directory: epath.Path, chosen: Mapping[str, str]) -> dict[str, epath.Path]:
    """The directory of each stage: that of the report where it says so, else the one that was finished last."""
    found: dict[str, tuple[str, epath.Path]] = {}
    for child in sorted(_children(directory)):
        match = _STAGE.fullmatch(child.name)
        if not match or (match[1] in chosen and chosen[match[1]] != child.name):
            continue
        stamp = stamps.read(child)
        at = str(stamp.get("at", "")) if stamp else ""
        if match[1] not in found or at > found[match[1]][0]:
            found[match[1]] = at, child
    # What is not finished comes last.
    order = sorted(found, key=lambda name: (not found[name][0], found[name][0]))
    return {name: found[name][1] for name in order}


def _children(directory: epath.Path) -> list[epath.Path]:
    return [child for child in directory.iterdir() if child.is_dir()] if directory.exists() else []


def _unfinished(directory: epath.Path, parts: list[Part]) -> dict[str, Any]:
    """What the finished stages of an unfinished run say."""
    if len(parts) > 1:
        methods: dict[str, Any] = {}
        for part in parts:
            summary = _finished(directory, part.name) or _summary(part, "after") or _summary(part, "before")
            if summary:
                methods[part.name] = summary
        out: dict[str, Any] = {"before": methods.pop("before")} if "before" in methods else {}
        return {"title": "Unfinished comparison", **out, "methods": methods} if methods or out else {}
    found = {name: _summary(parts[0], name) for name in ("before", "offered", "after_sft", "after")}
    report = {name: summary for name, summary in found.items() if summary}
    kept = _summary(parts[0], "filter") or _summary(parts[0], "assemble")
    return {"title": "Unfinished run", **report, **({"traces": kept} if kept else {})} if report else {}


def _finished(directory: epath.Path, method: str) -> dict[str, Any] | None:
    """What a comparison wrote of a method that is through."""
    place = _stages(directory, {}).get(method)
    stamp = stamps.read(place) if place else None
    return stamp.get("summary") if stamp else None


def _summary(part: Part, stage: str) -> dict[str, Any] | None:
    stamp = stamps.read(part.stages[stage]) if stage in part.stages else None
    summary = stamp.get("summary") if stamp else None
    return summary if isinstance(summary, dict) else None


def _of_a_seed(directory: epath.Path) -> dict[str, Any]:
    for child in sorted(_children(directory)):
        if _SEED.fullmatch(child.name):
            return read_object(child / "run.json") or {}
    return {}
