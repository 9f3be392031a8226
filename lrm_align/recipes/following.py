"""What a sampler's job does: waits for the run that it belongs to, and samples for the stages that ask for it."""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import plain
from lrm_align.errors import UserError
from lrm_align.recipes.stage import Planned, Stage, plan
from lrm_align.rl.separate import pauses
from lrm_align.settings import counted

_LINE_EVERY = 60.0  # seconds between lines while it waits
_SHORTEST, _LONGEST = 0.2, 5.0  # seconds between two looks


def share(text: str | None, count: int) -> tuple[int, int]:
    """Reads `--sampler=i/n` as (i, n); without it, the only sampler.

    Args:
      text: of the flag.
      count: `config.rl.sampler_count`.

    Raises:
      UserError: no two numbers, or not of as many samplers as the config says.

    >>> share("1/2", 2)
    (1, 2)
    """
    if text is None and count == 1:
        return 0, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text or "")
    if not match or int(match[2]) != count or int(match[1]) >= count:
        found = "no --sampler" if text is None else f"--sampler={text}"
        raise UserError(
            f"{found} with config.rl.sampler_count = {count}; wanted one of --sampler=0/{count} … {count - 1}/{count}"
        )
    return int(match[1]), int(match[2])


def follow(
    stages: Sequence[Stage],
    config: ConfigDict,
    workdir: epath.Path,
    mine: tuple[int, int],
    log: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Samples for the stages of a run until it needs no more; returns the groups written.

    Args:
      stages: of the recipe.
      config: of this job.
      workdir: of the run.
      mine: (i, n), which share of the samples.
      log: takes progress lines.
      sleep: waits.

    Raises:
      UserError: no stage learns from samples of other jobs; the run in the workdir has another config.
    """
    names = [stage.name for stage in stages if stage.follow is not None]
    if not names:
        raise UserError('--follow: this recipe has no stage for samplers; config.rl.mode = "separate" makes one')
    written = 0
    for name in names:
        here = _started(name, stages, config, workdir, log, sleep)
        if here.finished is None:
            above = {p.stage.name: p.directory for p in plan(stages, workdir) if p.stage.name in here.stage.depends}
            assert here.stage.follow is not None
            written += here.stage.follow(here.directory, above, *mine)
    return written


def _started(
    name: str,
    stages: Sequence[Stage],
    config: ConfigDict,
    workdir: epath.Path,
    log: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Planned:
    """The stage, once the run has come to it: all that it depends on is finished."""
    waits, last = pauses(_SHORTEST, _LONGEST), -_LINE_EVERY
    while True:
        planned = {p.stage.name: p for p in plan(stages, workdir)}
        here = planned[name]
        if here.finished is not None or here.directory.exists():
            return here
        difference = _difference(config, workdir)
        if difference:
            raise UserError(
                f"{workdir / 'run.json'}: the run there has another config: {difference}; a sampler has its trainer's"
            )
        if time.monotonic() - last >= _LINE_EVERY:
            missing = [above for above in here.stage.depends if planned[above].finished is None]
            log(f"waiting for {workdir} to come to its stage {name}" + (f" after {', '.join(missing)}" * bool(missing)))
            last = time.monotonic()
        sleep(next(waits))


def _difference(config: ConfigDict, workdir: epath.Path) -> str:
    """The first value of the run's config that is another one here; "" where there is none, or no run yet.

    A sampler may set for itself what cannot change a result. Its number and its model are held against the orders of
    the trainer, see `separating.about`.
    """
    try:
        theirs = json.loads((workdir / "run.json").read_text())["config"]
    except (FileNotFoundError, ValueError):
        return ""  # it is just being written
    ours = json.loads(json.dumps(plain(config), default=str))
    return _first(*(json.loads(json.dumps(counted(values))) for values in (theirs, ours)))


def _first(theirs: Any, ours: Any, name: str = "config") -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = (_first(theirs.get(key), ours.get(key), f"{name}.{key}") for key in {**theirs, **ours})
        return next((difference for difference in found if difference), "")
    return "" if theirs == ours else f"{name} is {theirs!r} there and {ours!r} here"
