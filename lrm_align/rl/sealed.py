"""Small JSON objects that are created once and never changed: how jobs that share only a bucket talk.

An object is one line with a checksum of its own. A name is taken by whoever creates it first (`atomic_files`). What a
kill cut short does not exist for readers, and may be created anew. Nothing is renamed or appended to.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import UserError, cannot_write

_NUMBERED = re.compile(r"(\d{8,})\.json")


class TakenError(Exception):
    """Somebody else created an object of this name."""


def create(path: epath.Path, kind: str, fields: Mapping[str, Any]) -> None:
    """Creates an object.

    Args:
      path: where.
      kind: what it is, with a version: "lrm_align.order/1".
      fields: plain values.

    Raises:
      TakenError: a whole object of this name is there.
      UserError: a damaged or foreign one is, or the place cannot be written.
    """
    body = {"kind": kind, **fields}
    text = json.dumps({**body, "seal": _seal(body)}) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if read(path, kind) is not None:
            raise TakenError(f"{path}: is there already")
        try:
            atomic_files.create_text(path, text)
        except FileExistsError:
            # `read` has just found nothing whole there: what a kill cut, or what another job made in the meantime.
            if path.read_bytes().endswith(b"}\n"):
                raise TakenError(f"{path}: another job created it at the same time") from None
            remove(path)
            atomic_files.create_text(path, text)
    except FileExistsError:
        raise TakenError(f"{path}: another job created it at the same time") from None
    except OSError as error:
        raise cannot_write(path, error) from error


def read(path: epath.Path, kind: str) -> dict[str, Any] | None:
    """The fields of an object; None where there is none, or one that a kill cut short.

    Raises:
      UserError: naming one that is damaged, or of another kind.

    >>> here = epath.Path(getfixture("tmp_path")) / "00000003.json"
    >>> create(here, "example/1", {"policy": 3})
    >>> read(here, "example/1"), numbers(here.parent)
    ({'policy': 3}, [3])
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data.endswith(b"}\n"):
        return None
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged: not JSON") from None
    seal = fields.pop("seal", None) if isinstance(fields, dict) else None
    if seal is None or seal != _seal(fields):
        raise UserError(f"{path}: damaged or foreign: its contents do not match its own checksum")
    if fields.pop("kind", None) != kind:
        raise UserError(f"{path}: not a {kind} object of this version")
    return fields


def name(number: int) -> str:
    """The file name of a numbered object.

    >>> name(12)
    '00000012.json'
    """
    return f"{number:08d}.json"


def numbers(directory: epath.Path) -> list[int]:
    """The numbers of the objects in a directory, ascending, whole or cut; other files are passed over."""
    if not directory.exists():
        return []
    found = (_NUMBERED.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in found if match)


def remove(path: epath.Path) -> None:
    """Removes a file that may be gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return


def _seal(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
