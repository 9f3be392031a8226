"""The stamp of a finished stage: what came out of it, every file with its checksum, and a seal over all of that.

`finished.json` is written last. A file that is lost, cut or changed afterwards is found by whoever uses the stage, and
so is a change of the stamp itself: the seal is the SHA-256 of the rest of the record as canonical JSON. It guards
against accidents and careless hands, not against someone who seals anew.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from lrm_align import atomic_files, untrusted
from lrm_align.errors import CannotWriteError, UserError

STAMP = "finished.json"
DIGESTS = ".digests.json"  # of a workdir: checksums by path, size and time of change
# Written again when the report of the run is: cards get results, and readers keep what they looked at.
NOT_SEALED = {STAMP, DIGESTS, "README.md"}
# The folder of a stage in which other jobs write, too: samplers end after the stage that they sample for.
SHARED = "shared"
_BLOCK = 1 << 22
_VERIFIED: set[tuple] = set()  # models that this process has read whole: a run looks at one several times


def write(directory: epath.Path, record: Mapping[str, Any]) -> None:
    """Writes the stamp of a stage whose files are all written.

    Args:
      directory: of the stage.
      record: plain values; `files` and `seal` are added.
    """
    atomic_files.sync(directory)
    digests = _Digests(directory.parent)
    files = {name: digests.of(directory / name) for name in sorted(_names(directory))}
    digests.save()
    # As a reader will find it: tuples are lists, keys are texts.
    whole = json.loads(json.dumps({**record, "files": files}))
    atomic_files.write_text(directory / STAMP, json.dumps({**whole, "seal": _seal(whole)}, indent=1))


def read(directory: epath.Path) -> dict[str, Any] | None:
    """The record of a finished stage; None where there is no whole stamp, so that the stage is not finished.

    Raises:
      UserError: a stamp that was changed after it was sealed.
    """
    path = directory / STAMP
    if not path.exists():
        return None
    try:
        record = json.loads(untrusted.read_bytes(path))
    except (ValueError, RecursionError):  # cut short by a kill, or no text at all
        return None
    if not isinstance(record, dict) or "summary" not in record:
        return None
    seal = record.pop("seal", None)
    if seal != _seal(record) and (seal is not None or "format" in record):  # versions without a format sealed nothing
        raise UserError(
            f"{path} was changed after it was written: its seal does not fit; delete {directory} to run the stage again"
        )
    return record


def verify(directory: epath.Path, below: str = "", whole: bool = False) -> None:
    """Looks whether every file of a finished stage is what it was when it finished.

    Args:
      directory: of the stage; nothing is asked of one without a stamp, or with one that names no files.
      below: only files below this folder of it.
      whole: read every byte again, whatever size and time of change say.

    Raises:
      UserError: a file is lost, cut or changed, or has come since.
    """
    record = read(directory)
    files = (record or {}).get("files")
    if files is None:
        return
    digests = _Digests(directory.parent)
    prefix = f"{below}/" if below else ""
    there = {name for name in _names(directory) if name.startswith(prefix)}
    wanted = {name: known for name, known in files.items() if name.startswith(prefix)}
    faults = [f"{name} is lost" for name in wanted if name not in there]
    faults += [f"{name} has come since" for name in sorted(there - set(wanted)) if _sealed_kind(name)]
    for name in sorted(there & set(wanted)):
        if (found := digests.of(directory / name, whole)) != wanted[name]:
            size = f"has {found[0]:,} bytes of {wanted[name][0]:,}" if found[0] != wanted[name][0] else "was changed"
            faults.append(f"{name} {size}")
    digests.save()
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(
            f"{directory} is not what it was when it finished: {faults[0]}{more}; bring it back, or delete {directory} "
            "to run the stage again"
        )


def verify_model(directory: epath.Path) -> None:
    """The same of a model directory or adapters that an export left, read whole; others are left alone.

    Raises:
      UserError: a file of it is lost, cut or changed.
    """
    if not (directory.parent / STAMP).exists():
        return
    looked_at = (str(directory), *((path.name, *_about(path)) for path in directory.iterdir()))
    if looked_at not in _VERIFIED:
        verify(directory.parent, directory.name, whole=True)
        _VERIFIED.add(looked_at)


def _names(directory: epath.Path) -> Iterator[str]:
    """The files below a directory, but those that are not sealed."""
    stack = [(directory, "")]
    while stack:
        place, prefix = stack.pop()
        for path in place.iterdir():
            name = f"{prefix}{path.name}"
            if path.is_dir():
                if name != SHARED:
                    stack.append((path, f"{name}/"))
            elif path.name not in NOT_SEALED and not path.name.startswith(atomic_files.PARTIAL):
                yield name


def _sealed_kind(name: str) -> bool:
    """Whether a file that nobody wrote while the stage ran would be read as its own: shards, manifests, weights."""
    return name.endswith((".array_record", ".json", ".safetensors", ".jsonl"))


def _about(path: epath.Path) -> list[int | float]:
    """[bytes, time of change] of a file, to the nanosecond where there is one."""
    if atomic_files.is_local(path):
        found = pathlib.Path(path).stat()
        return [found.st_size, found.st_mtime_ns]
    about = path.stat()
    return [about.length, about.mtime]


def _seal(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _Digests:
    """Checksums of files, kept in a workdir by size and time of change: an unchanged file is read once."""

    def __init__(self, workdir: epath.Path):
        self.path = workdir / DIGESTS
        self.known: dict[str, Any] = {}
        self.new = False
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError, RecursionError):  # none yet, or cut: files are read again
            found = {}
        if isinstance(found, dict):
            self.known = found

    def of(self, path: epath.Path, whole: bool = False) -> list[Any]:
        """[bytes, SHA-256] of a file."""
        key = _about(path)
        name = str(path.relative_to(self.path.parent))
        known = self.known.get(name)
        if not whole and isinstance(known, list) and known[:2] == key and len(known) == 3:
            return [known[0], known[2]]
        total = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
        self.known[name], self.new = [*key, total.hexdigest()], True
        return [key[0], total.hexdigest()]

    def save(self) -> None:
        """Keeps what was read; a workdir that cannot be written, such as someone else's, is read again next time."""
        if self.new:
            try:
                atomic_files.write_text(self.path, json.dumps(self.known))
            except CannotWriteError:
                return
