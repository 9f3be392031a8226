"""Rate and time left of long work: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich import progress as bars
from rich.console import Console

from lrm_align import processes

LINE_EVERY = 15.0  # seconds between two lines where there is no terminal


class Progress:
    """Counts what is finished, and decoded tokens where there are such, and says so.

    Args:
      title: what is being done.
      total: how much there is to finish.
      done: how much of it earlier runs finished.
      unit: what is counted.
      stream: where to write; standard error by default.
      every: seconds between plain lines.
    """

    def __init__(
        self, title: str, total: int, done: int = 0, unit: str = "traces", stream=None, every: float = LINE_EVERY
    ):
        self._title, self._total, self._earlier, self._done, self._unit = title, total, done, done, unit
        self._stream = sys.stderr if stream is None else stream
        self._says = processes.primary()  # of several processes one is enough
        self._every = every
        self._tokens = 0
        self._start = self._last = time.monotonic()
        console = Console(file=self._stream)
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TextColumn("{task.fields[status]}"))
        self._bar = bars.Progress(*columns, console=console) if self._says and console.is_terminal else None
        self._task = self._bar.add_task(title, total=total, completed=done, status="") if self._bar else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._says and (self._done > self._earlier or kind is None):
            print(f"{self._title}: {self.status()}", file=self._stream, flush=True)

    def tokens(self, count: int) -> None:
        """Adds decoded tokens; from then on the rate is theirs."""
        self._tokens += count
        self._show()

    def add(self, count: int = 1) -> None:
        """Adds what was finished."""
        self._done += count
        self._show()

    def status(self) -> str:
        """Finished of all, the rate, time left (from what this run finished)."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        fresh = self._done - self._earlier
        rate = f"{self._tokens / seconds:,.0f} tokens/s" if self._tokens else f"{fresh / seconds:,.1f} {self._unit}/s"
        text = f"{self._done:,} of {self._total:,} {self._unit}, {rate}"
        if self._done >= self._total:
            return f"{text}, {duration(seconds)}"
        if not fresh:
            return f"{text}, {duration(seconds)} so far"
        return f"{text}, {duration((self._total - self._done) * seconds / fresh)} left"

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, status=self.status())
        elif self._says and now - self._last >= self._every:
            self._last = now
            print(f"{self._title}: {self.status()}", file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(3.21), duration(75), duration(7265)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
