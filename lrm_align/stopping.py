"""Ctrl-C and SIGTERM end a command in good order: what is done stays, and the same command goes on from there.

A signal raises `Stopped` between two operations of the main thread, so that every `finally` is done on the way out.
What must not be cut in two is `deferred`: a loop that can stop between two steps asks there. A second Ctrl-C does not
wait for any of it: the process dies at once, as of SIGINT, and leaves no more behind than a kill does.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

GOES_ON = "the same command goes on"
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}

_asked: int | None = None  # the first signal that came
_pending = False  # whether it is still to be raised
_deferrals = 0  # blocks that are entered in which a signal is noted, and no more
_waiting = ""  # what is said of them
_before: dict[int, Any] | None = None  # the handlers of before, while somebody listens


class Stopped(SystemExit):
    """A signal ended the work; where nobody catches it, the process ends with 128 plus the signal's number.

    Attributes:
      number: of the signal.
      kept: what stays, and how to go on.
      where: the stage and its path; "" outside of stages.

    >>> stopped = Stopped(signal.SIGTERM, "step 3 is saved")
    >>> print(stopped, stopped.code)
    stopped by SIGTERM: step 3 is saved 143
    """

    def __init__(self, number: int, kept: str = f"what is finished is on disk; {GOES_ON}", where: str = ""):
        super().__init__(128 + number)
        self.number, self.kept, self.where = number, kept, where

    def __str__(self) -> str:
        where = f" in {self.where}" if self.where else ""
        return f"stopped by {_SIGNALS.get(signal.Signals(self.number), self.number)}{where}: {self.kept}"


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """While a signal raises `Stopped` in the main thread; does nothing in others, or where one listens already."""
    global _asked, _pending, _before
    if _before is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that the parent has told us to ignore, as nohup does, stays ignored.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    _before = {number: signal.signal(number, _hear) or signal.SIG_DFL for number in heard}
    try:
        yield
    finally:
        for number, handler in _before.items():
            signal.signal(number, handler)
        _asked, _pending, _before = None, False, None


@contextlib.contextmanager
def deferred(waiting: str = "") -> Iterator[Callable[[], int | None]]:
    """While signals are noted alone; gives what tells the number of the first one that came, None without any.

    A signal that nobody asked about raises `Stopped` when the block ends.

    Args:
      waiting: what Ctrl-C waits for, told to who pressed it: "the end of this step".
    """
    global _deferrals, _pending, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with listening():
        _deferrals, outer, _waiting = _deferrals + 1, _waiting, waiting or _waiting
        try:
            yield _ask
        finally:
            _deferrals, _waiting = _deferrals - 1, outer
        if _pending and not _deferrals:
            assert _asked is not None
            _pending = False
            raise Stopped(_asked)


def check() -> None:
    """Stops where a signal came and nobody stopped: a library may swallow what is raised in its midst.

    Raises:
      Stopped: a signal came, and no block that notes it is entered.
    """
    if _asked is not None and not _deferrals and threading.current_thread() is threading.main_thread():
        raise Stopped(_asked)


def _ask() -> int | None:
    global _pending
    _pending = False  # who asks, stops
    return _asked


def _hear(number: int, frame: Any) -> None:
    global _asked, _pending
    if number == signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)  # the next one ends the process, whatever it is at
        if _waiting:
            os.write(2, f"\nCtrl-C: waits for {_waiting}; once more aborts at once\n".encode())
    _asked = number if _asked is None else _asked
    if not _deferrals:
        raise Stopped(number)
    _pending = True
