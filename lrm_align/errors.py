"""What the user can mend ends in one line and exit status 2; faults of ours keep their traceback."""

import contextlib
import errno
import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from lrm_align import stopping

OURS = "lrm_align."
_ADVICE = {
    errno.ENOSPC: "free some space there, then give the same command again: it goes on",
    errno.EDQUOT: "free some of the quota there, then give the same command again: it goes on",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then give the same command again: it goes on",
    errno.EROFS: "make it writable or give another --workdir",
    errno.EACCES: "make it writable or give another --workdir",
    errno.EPERM: "make it writable or give another --workdir",
    errno.EIO: "look at the device (its log tells more), then give the same command again: it goes on",
}
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}  # whoever met it, whatever it did
_LONGEST = 1500  # characters of a line: a value that fills the screen hides what is wrong with it


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, what was found, what would be right."""


class CannotWriteError(UserError):
    """A place that cannot be written: its path, the system's reason, and what would mend it."""


def cannot_write(what: object, error: OSError) -> CannotWriteError:
    """The line about a place that cannot be written.

    >>> cannot_write("run/report.json", OSError(errno.ENOSPC, "No space left on device"))
    CannotWriteError('cannot write run/report.json: No space left on device; free some space there, then give ...')
    """
    reason = f"cannot write {what}: {error.strerror or error}"
    advice = _ADVICE.get(error.errno or 0)
    return CannotWriteError(f"{reason}; {advice}" if advice else reason)


@contextlib.contextmanager
def during(stage: str, directory: object) -> Iterator[None]:
    """While a stage runs: what the disk refuses, and the signal that stops it, are told with its name and its path.

    Raises:
      CannotWriteError: for any error of the disk.

    >>> with during("train", "run/train-1f"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    lrm_align.errors.CannotWriteError: stage train: cannot write run/train-1f: No space left on device; free some ...
    """
    try:
        yield
    except CannotWriteError as error:
        raise CannotWriteError(f"stage {stage}: {error}") from error
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise CannotWriteError(f"stage {stage}: {cannot_write(error.filename or directory, error)}") from error
    except stopping.Stopped as stopped:
        stopped.where = stopped.where or f"stage {stage} ({directory})"
        raise


def one_line(message: object) -> str:
    """Folds a message into one line, so that every mistake reads the same on a terminal and in a log.

    Names and values in it may be a stranger's: what a terminal would obey is spelled out.

    >>> one_line("no such file:\\n  prompts.csv"), one_line("no column \\x1b[2J")
    ('no such file: prompts.csv', 'no column \\\\x1b[2J')
    >>> len(one_line("a" * 5000))
    1500
    """
    text = " ".join(str(message).split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 503]} … {line[-500:]}"


def command(main: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the entry point of a command, so that what ends it early is one line.

    A `UserError`, and a disk that refuses, exit with status 2, Ctrl-C with 130 and SIGTERM with 143 (see `stopping`).
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with stopping.listening():
                return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from error  # which other processes are told
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            refused = cannot_write(error.filename or "a file", error)
            print(f"error: {one_line(refused)}", file=sys.stderr)
            raise SystemExit(2) from refused
        except stopping.Stopped as stopped:
            print(one_line(stopped), file=sys.stderr)
            raise

    return wrapped


@contextlib.contextmanager
def attributed(function: str, expected: str) -> Iterator[None]:
    """While a function that a config names is tried: its failure becomes one line with its name and the place.

    Functions of this package are left alone: a fault of ours keeps its traceback.

    Args:
      function: its import path, "package.module:name".
      expected: what the function should have been.

    Raises:
      UserError: for what a wrong name, shape or signature raises.
    """
    try:
        yield
    except (AttributeError, LookupError, NameError, TypeError, ValueError) as error:
        if function.startswith(OURS):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        module = sys.modules.get(function.partition(":")[0])
        theirs = [f for f in frames if module is not None and f.filename == vars(module).get("__file__")]
        place = f" at line {theirs[-1].lineno} of {theirs[-1].filename}" if theirs else ""
        said = (str(error).splitlines() or [""])[0]
        raise UserError(f"{function} fails{place}: {type(error).__name__}: {said}; wanted {expected}") from error
