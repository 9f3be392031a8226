"""Mistakes of a user end in one line and exit status 2; faults of ours keep their traceback."""

import functools
import sys
from collections.abc import Callable
from typing import Any


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
