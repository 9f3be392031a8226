"""What threads of Orbax and TensorStore say of an error beside raising it where somebody waits."""

import contextlib
import logging
import pathlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While an error of these threads is not told twice.

    Orbax logs each, with a traceback for each thread that it passes. TensorStore's threads call back to an event loop
    that the error has closed.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def hear(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            hook(unraisable)

    logger.addFilter(_is_news)
    sys.unraisablehook = hear
    try:
        yield
    finally:
        logger.removeFilter(_is_news)
        sys.unraisablehook = hook


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in pathlib.PurePath(record.pathname).parts
