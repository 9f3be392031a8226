"""Stages of a run: what each depends on, which are finished, and running those that are not."""

import datetime
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

import lrm_align
from lrm_align.config import digest, plain
from lrm_align.errors import UserError

Summary = dict[str, Any]


class Stage(NamedTuple):
    """One step of a recipe.

    Attributes:
      name: a word.
      settings: plain values; the stage is run again when they change.
      run: (its own directory, directories of the stages it depends on) -> a plain summary for the report.
        Killed and called again it goes on with what stands in its directory.
      depends: names of earlier stages.
      follow: (its own directory, directories of the stages it depends on, i, n) -> groups written: what sampler i of n
        does for it in a job of its own; None where samplers have nothing to do.
    """

    name: str
    settings: Any
    run: Callable[[epath.Path, Mapping[str, epath.Path]], Summary]
    depends: tuple[str, ...] = ()
    follow: Callable[[epath.Path, Mapping[str, epath.Path], int, int], int] | None = None


class Planned(NamedTuple):
    """A stage with its identity: `fingerprint` covers the settings of the stage and of all it depends on."""

    stage: Stage
    fingerprint: str
    directory: epath.Path
    finished: Summary | None


def plan(stages: Sequence[Stage], workdir: epath.Path) -> list[Planned]:
    """Gives each stage its directory, WORKDIR/NAME-FINGERPRINT, and finds the finished ones.

    Changed settings lead to another directory: old results are never mixed with new ones and never deleted.
    """
    planned: dict[str, Planned] = {}
    for stage in stages:
        above = [planned[name].fingerprint for name in stage.depends]
        fingerprint = digest([stage.name, plain(stage.settings), above, lrm_align.__version__])[:10]
        directory = workdir / f"{stage.name}-{fingerprint}"
        planned[stage.name] = Planned(stage, fingerprint, directory, _finished(directory))
    return list(planned.values())


def chosen(stages: Sequence[Stage], names: Collection[str] | None) -> set[str]:
    """The named stages with all that they depend on; all stages for None.

    Raises:
      UserError: an unknown name.
    """
    known = {stage.name: stage for stage in stages}
    if names is None:
        return set(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--stages names {', '.join(unknown)}; this recipe has {', '.join(known)}")
    wanted: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        wanted.add(name)
        stack.extend(known[name].depends)
    return wanted


def run(
    stages: Sequence[Stage],
    workdir: epath.Path,
    names: Collection[str] | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Summary]:
    """Runs the chosen stages in order, skipping the finished ones; returns the summaries of all finished stages."""
    wanted = chosen(stages, names)
    planned = plan(stages, workdir)
    directories = {p.stage.name: p.directory for p in planned}
    summaries: dict[str, Summary] = {}
    for p in planned:
        name = p.stage.name
        if p.finished is not None:
            summaries[name] = p.finished
            if name in wanted:
                log(f"[{name}] finished before: {p.directory}")
            continue
        if name not in wanted:
            continue
        log(f"[{name}] {p.directory}")
        p.directory.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        summary = p.stage.run(p.directory, {above: directories[above] for above in p.stage.depends})
        seconds = round(time.monotonic() - start, 2)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {"stage": name, "fingerprint": p.fingerprint, "seconds": seconds, "at": now, "summary": summary}
        _stamp(p.directory).write_text(json.dumps(record, indent=1))
        summaries[name] = summary
    return summaries


def _stamp(directory: epath.Path) -> epath.Path:
    return directory / "finished.json"


def _finished(directory: epath.Path) -> Summary | None:
    record = _record(directory)
    return None if record is None else record["summary"]


def seconds(directory: epath.Path) -> float | None:
    """What the last process that worked on a finished stage took; None for a stage that is not finished."""
    record = _record(directory)
    return None if record is None else record["seconds"]


def _record(directory: epath.Path) -> dict[str, Any] | None:
    """The stamp of a finished stage; one cut short by a kill means that it is not finished."""
    if not _stamp(directory).exists():
        return None
    try:
        record = json.loads(_stamp(directory).read_text())
    except ValueError:
        return None
    return record if isinstance(record, dict) and "summary" in record else None
