"""Files of one JSON value a line, as runs keep them: metrics, sample rollouts, answers, verdicts."""

import json
from collections.abc import Iterable
from typing import Any

from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import UserError


def write(path: epath.PathLike, rows: Iterable[Any]) -> None:
    """Writes a whole file, in place of the one that may be there.

    Raises:
      CannotWriteError: the file could not be written; the old one is there still.

    >>> place = getfixture("tmp_path") / "metrics.jsonl"
    >>> write(place, [{"step": 0, "loss": 1.5}, {"step": 1, "loss": 1.25}])
    >>> place.read_text()
    '{"step": 0, "loss": 1.5}\\n{"step": 1, "loss": 1.25}\\n'
    """
    atomic_files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read(path: epath.PathLike) -> list[Any]:
    """The values of a file of ours.

    Raises:
      UserError: naming the first line that is none, or a file that cannot be read.
    """
    place = epath.Path(path)
    found = []
    for number, line in enumerate(_lines(place), 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            raise UserError(f"{place}, line {number}: damaged: not JSON") from None
    return found


def read_objects(path: epath.PathLike) -> list[dict[str, Any]]:
    """The objects of a file that something may have cut or damaged: other lines are left out; [] without a file.

    >>> place = getfixture("tmp_path") / "metrics.jsonl"
    >>> _ = place.write_text('{"step": 0, "loss": 1.5}\\n{"step": 1, "lo')
    >>> read_objects(place), read_objects(place.with_name("no such file"))
    ([{'step': 0, 'loss': 1.5}], [])
    """
    place = epath.Path(path)
    if not place.exists():
        return []
    found = []
    for line in _lines(place):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _lines(place: epath.Path) -> list[bytes]:
    try:
        lines = place.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror or error}") from None
    return lines if lines[-1] else lines[:-1]
