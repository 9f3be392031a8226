"""Whole files: a reader finds the old contents or the new ones, never a part, however the writer ends.

On a disk, the contents go to a new file in the same directory, are flushed down to the device (fsync), and take the
name by a rename; then the directory is flushed, so that the name outlives a power cut as well. A bucket has neither
renames nor parts: an object is there when its upload ends. What must not be overwritten is created: by a hard link on a
disk, by looking before and after in a bucket.

A place that cannot be written is the user's to mend, and one line says so.

Of several processes that run together (`processes`) the first alone writes: what the others are given goes nowhere, and
who reads a file that was written so waits for the first (`processes.barrier`, `processes.shared`).
"""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etils import epath

from lrm_align import processes
from lrm_align.errors import cannot_write

PARTIAL = ".partial-"  # the first part of the name of a file that is not whole yet
_IN_MEMORY, _CHUNK = 64 << 20, 4 << 20  # bytes
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # of a directory, on file systems that know no such thing


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a whole file as UTF-8, in place of the one that may be there.

    Raises:
      CannotWriteError: the file could not be written; the old one is there still.

    >>> place = getfixture("tmp_path") / "report.json"
    >>> write_text(place, "{}")
    >>> write_text(place, '{"n": 1}')
    >>> place.read_text(), len(list(place.parent.iterdir()))
    ('{"n": 1}', 1)
    """
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes a whole file, in place of the one that may be there.

    Raises:
      CannotWriteError: the file could not be written; the old one is there still.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: epath.PathLike) -> Iterator[IO[bytes]]:
    """A file to write to that takes its name, or the place of the old one, when the block ends without an error.

    Raises:
      CannotWriteError: the file could not be written; the old one is there still.
    """
    place = epath.Path(path)
    if not processes.primary():
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            yield nowhere
        return
    try:
        if not is_local(place):
            with _uploading(place) as file:
                yield file
            return
        with _scratch(Path(place)) as scratch:
            with scratch.open("xb") as file:
                yield file
                _flush(file)
            scratch.replace(place)
            _flush_directory(Path(place).parent)
    except OSError as error:
        raise cannot_write(place, error) from error


def create_text(path: epath.PathLike, text: str) -> None:
    """Writes a whole file where there is none.

    In a bucket, two writers that create the same object at the same moment may both believe that they did.

    Raises:
      FileExistsError: something has the name.
      CannotWriteError: the file could not be written.

    >>> place = getfixture("tmp_path") / "manifest.json"
    >>> create_text(place, "{}")
    >>> create_text(place, "other")
    Traceback (most recent call last):
    ...
    FileExistsError: ...manifest.json
    """
    place, data = epath.Path(path), text.encode()
    if not processes.primary():
        return
    try:
        if is_local(place):
            _create_locally(Path(place), data)
            return
        if place.exists():
            raise FileExistsError(str(place))
        place.write_bytes(data)
        if place.read_bytes() != data:
            raise FileExistsError(str(place))
    except FileExistsError:
        raise FileExistsError(str(place)) from None
    except OSError as error:
        raise cannot_write(place, error) from error


def sync(directory: epath.PathLike) -> None:
    """Flushes all files below a local directory, and their names, down to the device; in a bucket they are there.

    For files that others than this module wrote, before a stamp says that they are whole.

    Raises:
      CannotWriteError: the device did not take them.
    """
    if not is_local(epath.Path(directory)):
        return
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                if path.is_file() and not path.is_symlink():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            except FileNotFoundError:  # another job's, which has become the whole file that it was a part of
                continue
            except OSError as error:
                raise cannot_write(path, error) from error
        _flush_directory(Path(folder))


def remove_partials(directory: epath.PathLike) -> None:
    """Removes what killed writers left in a directory; for the one process that may write there."""
    place = epath.Path(directory)
    if processes.primary() and is_local(place) and place.is_dir():
        for path in Path(place).glob(f"{PARTIAL}*"):
            path.unlink(missing_ok=True)


def is_local(path: epath.PathLike) -> bool:
    """Whether a path lies on a disk of this machine, as far as its name says.

    >>> is_local("runs/1"), is_local("gs://bucket/runs/1")
    (True, False)
    """
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A name beside a file for what is not whole yet; nothing has it afterwards."""
    scratch = place.with_name(PARTIAL + uuid.uuid4().hex[:16])
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _create_locally(place: Path, data: bytes) -> None:
    with _scratch(place) as scratch:
        with scratch.open("xb") as file:
            file.write(data)
            _flush(file)
        try:
            os.link(scratch, place)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if place.exists():  # a disk without hard links: two writers at the same moment are not told apart
                raise FileExistsError(str(place)) from None
            scratch.replace(place)
    _flush_directory(place.parent)


@contextlib.contextmanager
def _uploading(place: epath.Path) -> Iterator[IO[bytes]]:
    """An upload that begins when the contents are whole: closing one early would make an object of a part."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        yield spool
        spool.seek(0)
        with place.open("wb") as file:
            shutil.copyfileobj(spool, file, _CHUNK)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)
