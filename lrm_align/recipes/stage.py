"""Stages of a run: what each depends on, which are finished, and running those that are not."""

import datetime
import functools
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

import lrm_align
from lrm_align import atomic_files, processes, stamps, stopping
from lrm_align.errors import UserError, during
from lrm_align.plain import digest, plain

Summary = dict[str, Any]

# Of what stages leave in their directories and take from each other's. It is raised when a version could not go on
# with what the one before left, or would make something else of the same settings.
FORMAT = 1


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

    Raises:
      UserError: the workdir holds stages of another format, or a stamp that was changed.
    """
    _check_format(workdir)
    planned: dict[str, Planned] = {}
    for stage in stages:
        above = [planned[name].fingerprint for name in stage.depends]
        fingerprint = digest([stage.name, plain(stage.settings), above, FORMAT])[:10]
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
    """Runs the chosen stages in order, skipping the finished ones; returns the summaries of all finished stages.

    Several processes run each stage together; what the first found is its summary, and the first stamps it.

    Raises:
      UserError: an unknown name, or a finished stage that another starts from is not what it was when it finished.
    """
    wanted = chosen(stages, names)
    planned = plan(stages, workdir)
    processes.agree("stages", [[p.stage.name, p.fingerprint, p.finished is not None] for p in planned])
    directories = {p.stage.name: p.directory for p in planned}
    # Whoever has what a stage made may throw it away: what nothing starts from is not looked at.
    used = {above for p in planned if p.finished is None and p.stage.name in wanted for above in p.stage.depends}
    for p in planned:
        if p.finished is not None and p.stage.name in used:
            processes.shared(f"the check of {p.stage.name}", functools.partial(stamps.verify, p.directory))
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
        with during(name, p.directory):
            p.directory.mkdir(parents=True, exist_ok=True)
            log(f"[{name}] {p.directory}")
            atomic_files.remove_partials(p.directory)
            start = time.monotonic()
            summary = p.stage.run(p.directory, {above: directories[above] for above in p.stage.depends})
            # As a later run will read it: tuples are lists there, and keys are texts.
            summary = processes.first(f"the end of {name}", json.loads(json.dumps(plain(summary))))
            about = {"stage": name, "fingerprint": p.fingerprint, "format": FORMAT, "version": lrm_align.__version__}
            about |= {"seconds": round(time.monotonic() - start, 2)}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            record = {**about, "at": now, "summary": summary}
            processes.shared(f"the stamp of {name}", functools.partial(stamps.write, p.directory, record))
            stopping.check()
        summaries[name] = summary
    return summaries


def seconds(directory: epath.Path) -> float | None:
    """What the last process that worked on a finished stage took; None for a stage that is not finished."""
    record = stamps.read(directory)
    return None if record is None else record["seconds"]


def _finished(directory: epath.Path) -> Summary | None:
    record = stamps.read(directory)
    return None if record is None else record["summary"]


def _check_format(workdir: epath.Path) -> None:
    """Refuses a workdir that another format of stages wrote: its stages would be passed over without a word."""
    for stamp in sorted(workdir.glob(f"*-*/{stamps.STAMP}")) if workdir.is_dir() else ():
        record = stamps.read(stamp.parent)
        found = record.get("format", 0) if record is not None else FORMAT
        if found != FORMAT:
            raise UserError(
                f"{workdir} was written by another version: {stamp.parent.name} has format {found}, this version's is "
                f"{FORMAT}; give another --workdir, or delete its stages (trace shards stay readable)"
            )
