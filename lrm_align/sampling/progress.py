"""Tokens a second and time left: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_EVERY = 15.0  # seconds between two lines where there is no terminal


class SamplingProgress:
    """Counts finished traces and decoded tokens, and says so.

    Args:
      title: what is being done.
      total: traces to finish.
      done: traces finished by earlier runs.
      stream: where to write; standard error by default.
      every: seconds between plain lines.
    """

    def __init__(self, title: str, total: int, done: int = 0, stream=None, every: float = LINE_EVERY):
        self._title, self._total, self._earlier, self._done = title, total, done, done
        self._stream = sys.stderr if stream is None else stream
        self._every = every
        self._tokens = 0
        self._start = self._last = time.monotonic()
        console = Console(file=self._stream)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=total, completed=done, status="") if self._bar else None

    def __enter__(self) -> "SamplingProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._done > self._earlier or kind is None:
            print(f"{self._title}: {self.status()}", file=self._stream, flush=True)

    def tokens(self, count: int) -> None:
        """Adds decoded tokens."""
        self._tokens += count
        self._show()

    def trace(self) -> None:
        """Adds a finished trace."""
        self._done += 1

    def status(self) -> str:
        """Finished of all, tokens a second, time left (from the traces of this run)."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        text = f"{self._done:,} of {self._total:,} traces, {self._tokens / seconds:,.0f} tokens/s"
        fresh = self._done - self._earlier
        if self._done >= self._total:
            return f"{text}, {duration(seconds)}"
        if not fresh:
            return f"{text}, {duration(seconds)} so far"
        return f"{text}, {duration((self._total - self._done) * seconds / fresh)} left"

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, status=self.status())
        elif now - self._last >= self._every:
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
