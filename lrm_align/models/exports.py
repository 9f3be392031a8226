"""The exports of a run by the run's name: `runs/mine` is its last model, `runs/mine/adapters` its last adapters.

A stage leaves its export in WORKDIR/NAME-FINGERPRINT/model and …/adapters. The last one that finished has these shorter
names, too: for every command here, and, where a workdir lies on a disk, as links for other programs.
"""

import pathlib
import uuid

from etils import epath

from lrm_align import atomic_files, stamps
from lrm_align.errors import UserError

RUN = "run.json"
KINDS = MODEL, ADAPTERS = ("model", "adapters")


def named(path: epath.Path, kind: str = MODEL) -> epath.Path:
    """The directory of an export that a run's name stands for; any other path as it is.

    Args:
      path: of a run, or of its "model" or "adapters", or of anything else.
      kind: what is wanted of a run.

    Raises:
      UserError: the run has not written what is asked for.
    """
    if (path / RUN).is_file() and not (path / "config.json").is_file():
        return _wanted(path, kind)
    if path.name in KINDS and (path.parent / RUN).is_file() and not _is_own(path):
        return _wanted(path.parent, path.name)
    seeds = sorted(run.parent.name for run in path.glob(f"seed_*/{RUN}")) if path.is_dir() else []
    if seeds and not (path / "config.json").is_file():
        raise UserError(f"{path}: holds a run for each of {len(seeds)} seeds; name one, as {path / seeds[0]}")
    return path


def last(workdir: epath.Path, kind: str) -> epath.Path | None:
    """The export of a kind that finished last, None where there is none."""
    found = []
    for stamp in workdir.glob(f"*-*/{stamps.STAMP}"):
        record = stamps.read(stamp.parent)
        if record is not None and (stamp.parent / kind).is_dir():
            found.append((str(record.get("at", "")), stamp.parent.name))
    return workdir / max(found)[1] / kind if found else None


def link(workdir: epath.Path) -> None:
    """Lets WORKDIR/model and WORKDIR/adapters name the last export, where a disk has links; atomic for readers."""
    if not atomic_files.is_local(workdir):
        return
    for kind in KINDS:
        target, place = last(workdir, kind), pathlib.Path(workdir) / kind
        if target is None or _is_own(epath.Path(place)):
            continue
        draft = place.with_name(f".{kind}.{uuid.uuid4().hex}")
        try:
            draft.symlink_to(pathlib.Path(target.parent.name) / kind, target_is_directory=True)
            draft.replace(place)
        except OSError:  # a disk without links: commands here find the export all the same
            draft.unlink(missing_ok=True)


def _is_own(place: epath.Path) -> bool:
    """Whether something else than a link of ours lies there."""
    return place.exists() and not (atomic_files.is_local(place) and pathlib.Path(place).is_symlink())


def _wanted(workdir: epath.Path, kind: str) -> epath.Path:
    found = last(workdir, kind)
    if found is None:
        raise UserError(f"{workdir}: this run has written no {kind} yet; it does at the end of its stage export")
    return found
