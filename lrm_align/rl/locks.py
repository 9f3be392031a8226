"""One process at a time: a lock that the kernel drops with its holder, however that ends."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from lrm_align.errors import UserError
from lrm_align.rl.sealed import is_local


@contextlib.contextmanager
def alone(path: epath.PathLike, who: str) -> Iterator[None]:
    """While this process is the only one that holds the lock of a file.

    A store that is no local disk has no locks: there, what is created once keeps two jobs apart (`rl.sealed`).

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
        raise UserError(f"cannot write {local}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "of unknown number"
            raise UserError(
                f"a {who} (process {holder}) works in {local.parent} already; end it first, or use another workdir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
