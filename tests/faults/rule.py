"""The rule of every command: it does its work and exits with 0, or says in one line what is wrong and exits with 2.

Within seconds, without a traceback, and with nothing half-written.
"""

import contextlib
import io
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

SECONDS = 20  # on a machine that does other work as well; what hangs takes for ever


class Outcome(NamedTuple):
    """How a command ended: exit status (None for a traceback), what it said, and what it broke of the rule."""

    status: int | None
    said: str
    broken: str


class HangError(BaseException):
    """Time is up; no command may catch it."""


def outcome(command: Callable[[Sequence[str]], object], arguments: Sequence[str], places: Sequence[pathlib.Path]):
    """Runs a command in this process and holds it against the rule.

    Args:
      command: takes a command line, program name first.
      arguments: after the program's name.
      places: directories that a refused command must leave as they were.
    """
    before = [*map(_tree, places)]
    out, err, fault = io.StringIO(), io.StringIO(), ""
    status: int | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with _limited():
                command(["command", *arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
        except HangError:
            status, fault = None, "hangs"
        except BaseException as error:
            status = None
            fault = f"traceback: {type(error).__name__}: {error} at {_where(error)}"
    said = [line for line in err.getvalue().splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    if not fault and status not in (0, 2):
        fault = f"exit status {status}"
    if not fault and status == 2 and (len(errors) != 1 or said[-1] != errors[0] or len(errors[0]) > 2000):
        fault = f"exit status 2 with {len(errors)} lines"
    if not fault and status == 2 and [*map(_tree, places)] != before:
        fault = "something was written"
    return Outcome(status, "\n".join(said), fault)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise HangError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _tree(place: pathlib.Path) -> dict[str, int]:
    if not place.is_dir():
        return {}
    return {str(path.relative_to(place)): path.lstat().st_mtime_ns for path in place.rglob("*")}


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lrm_align" in frame.filename] or frames[-1:]
    return f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else sys.exc_info()[0].__name__
