"""One process at a time: a lock that the kernel drops with its holder, however that ends."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etils import epath

from lrm_align.atomic_files import is_local
from lrm_align.errors import UserError, cannot_write

_HELD = {errno.EAGAIN, errno.EACCES}
_NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}  # of file systems without them


@contextlib.contextmanager
def alone(path: epath.PathLike, who: str) -> Iterator[None]:
    """While this process is the only one that holds the lock of a file.

    A store that is no local disk has no locks, and some network file systems have none either: there, what is created
    once keeps two jobs apart (`rl.sealed`).

    Args:
      path: of the lock file; made if missing, and left there.
      who: what the process is, for the message: "trainer", "sampler 0/2".

    Raises:
      UserError: a living process holds it.

    >>> with alone(getfixture("tmp_path") / "trainer.lock", "trainer"):
    ...     with alone(getfixture("tmp_path") / "trainer.lock", "trainer"):
    ...         pass
    Traceback (most recent call last):
    ...
    lrm_align.errors.UserError: a trainer (process ... on ...) works in ... already; end it ...
    """
    place = epath.Path(path)
    if not is_local(place):
        yield
        return
    local = Path(place)
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        file = local.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(local, error) from error
    with file:
        _take(file, local, who)
        yield


def _take(file: IO[str], path: Path, who: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return
        if error.errno not in _HELD:
            raise cannot_write(path, error) from error
        file.seek(0)
        holder = file.read().strip() or "of unknown number"
        raise UserError(
            f"a {who} (process {holder}) works in {path.parent} already; end it first, or use another workdir"
        ) from None
