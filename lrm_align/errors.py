"""Mistakes of a user end in one line and exit status 2; faults of ours keep their traceback."""

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

OURS = "lrm_align."


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, what was found, what would be right."""


def one_line(message: object) -> str:
    """Folds a message into one line, so that every mistake reads the same on a terminal and in a log.

    >>> one_line("no such file:\\n  prompts.csv")
    'no such file: prompts.csv'
    """
    return " ".join(str(message).split())


def command(main: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the entry point of a command: a `UserError` prints one line and exits with status 2."""

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None

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
