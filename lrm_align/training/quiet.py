"""What threads of Orbax and TensorStore say of an error beside raising it where somebody waits."""

import contextlib
import logging
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'")  # how TensorStore names it


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While an error of these threads is not told twice.

    Orbax logs each, with a traceback for each thread that it passes. TensorStore's threads call back to an event loop
    that the error has closed. Where one array of several cannot be written, asyncio tells of those that nobody waited
    for any more, with a traceback each, once they are collected: after this, too.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def hear(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            hook(unraisable)

    logger.addFilter(_is_news)
    logging.getLogger("asyncio").addFilter(_is_no_disks)
    sys.unraisablehook = hear
    try:
        yield
    finally:
        logger.removeFilter(_is_news)
        sys.unraisablehook = hook


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in pathlib.PurePath(record.pathname).parts


def _is_no_disks(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, ValueError) and SYSTEM_ERROR.search(str(error)))
