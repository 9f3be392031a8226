"""Our side of the process that renders templates: started on first use, shared by all templates, ended when it hangs.

A template of a stranger cannot hang or exhaust us: each request has two seconds of processor time and a gibibyte of
memory over there. Conversations go in batches, so that a prompt's share of the way there and back is small.
"""

import atexit
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from lrm_align.errors import UserError

START = 120.0  # seconds that the process may take to start on a busy machine
SILENCE = 90.0  # seconds without an answer: the limit of processor time is the one that counts
AT_ONCE, CHARACTERS = 256, 1 << 20  # conversations of a request, and about how much text
_PACKAGE = pathlib.Path(__file__).parents[2]
_RUN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lrm_align.rendering import worker; worker.main()"


class EndedError(Exception):
    """The process ended, or was ended, over a request.

    Attributes:
      limit: what there was not enough of.
      number: of the request.
    """

    def __init__(self, limit: str, number: int):
        super().__init__(limit, number)
        self.limit, self.number = limit, number


class Process:
    """The process; usable from any thread.

    Args:
      seconds: of processor time that one request may take, and for each megabyte of text that much twice more.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[int] = set()
        self._numbers = itertools.count()

    def number(self) -> int:
        """A name for a template."""
        return next(self._numbers)

    def ask(self, definition: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The answers to requests about a template, which the process is told first if it does not know it.

        Args:
          definition: of the template, with its number.
          requests: none to define it only; the answer is then what is wrong with it, if anything is.

        Raises:
          EndedError: no answer came.
        """
        with self._lock:
            process = self._running()
            if definition["template"] not in self._known:
                (fault,) = self._exchange(process, [definition])
                if fault:
                    return fault
                self._known.add(definition["template"])
            return self._exchange(process, requests)

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def forget(self) -> None:
        """After a fork: the process and the lock are the parent's."""
        self._lock, self._process = threading.Lock(), None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        self._known = set()
        path = json.dumps([str(_PACKAGE), *(entry for entry in sys.path if entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _RUN, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        )
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], START)[0] or stdout.readline() != b"ready\n":
            self.stop()
            raise UserError("the process that renders chat templates did not start; is jinja2 installed?")
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)  # it may be writing, too, while we write
        for pipe in (self._process.stdin, stdout):
            _widen(pipe.fileno())
        return self._process

    def _exchange(self, process: "subprocess.Popen[bytes]", requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        try:
            return self._answers(process, requests)
        except BaseException:  # Ctrl-C, too: the answer to this request must not be read as that to the next
            self.stop()
            raise

    def _answers(self, process: "subprocess.Popen[bytes]", requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """In order. The next request is on its way while one is being answered."""
        assert process.stdin is not None and process.stdout is not None
        given, taken = process.stdin.fileno(), process.stdout.fileno()
        asked, rest = 0, memoryview(b"")
        answers: list[Any] = []
        parts: list[bytes] = []
        while len(answers) < len(requests):
            if not rest and asked < min(len(requests), len(answers) + 2):
                content = json.dumps(requests[asked], default=_plain_value).encode()
                seconds = self._seconds * (1 + 2e-6 * len(content))
                rest = memoryview(b"%.3f %b\n" % (seconds, content))
                asked += 1
            readable, writable, _ = select.select([taken], [given] if rest else [], [], SILENCE)
            data = b""
            if writable:
                try:
                    rest = rest[os.write(given, rest) :]
                except BrokenPipeError:
                    rest = memoryview(b"")  # the end of its answers tells more
            if readable:
                data = os.read(taken, 1 << 20)
            if not data and (readable or not writable):
                self._ended(process, silent=not readable, number=len(answers))
            *lines, last = data.split(b"\n")
            for line in lines:
                answers.append(_answer(b"".join([*parts, line])))
                parts = []
            parts.append(last)
        return answers

    def _ended(self, process: "subprocess.Popen[bytes]", silent: bool, number: int) -> NoReturn:
        code = None if silent else process.wait()
        self.stop()
        slow = code is None or code == -signal.SIGPROF
        limit = (
            f"{self._seconds:g} s of processor time" if slow else "a gibibyte of memory, or it made the process fail"
        )
        raise EndedError(limit, number)


def _widen(descriptor: int) -> None:
    """Fewer switches between the two processes, where the system has pipes of another size."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # a user has so much for all pipes
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHARACTERS)


def _answer(line: bytes) -> Any:
    answer = json.loads(line)
    if isinstance(answer, dict):
        raise RuntimeError(f"the process that renders chat templates failed:\n{answer['failed']}")
    return answer


def batches(conversations: Sequence[Any]) -> list[list[Any]]:
    """Conversations in groups for one request each, by number and by size."""
    groups: list[list[Any]] = [[]]
    size = 0
    for conversation in conversations:
        length = sum(len(str(message.get("content") or "")) for message in conversation[0])
        if groups[-1] and (len(groups[-1]) >= AT_ONCE or size + length > CHARACTERS):
            groups.append([])
            size = 0
        groups[-1].append(conversation)
        size += length
    return groups if groups[-1] else []


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise UserError(f"a conversation or a template's argument holds a {type(value).__name__}; expected plain values")


PROCESS = Process()
atexit.register(PROCESS.stop)
os.register_at_fork(after_in_child=PROCESS.forget)
