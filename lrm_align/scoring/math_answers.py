r"""Answers to mathematical problems: exact text, exact numbers, then math-verify in a process that can be ended.

Order of the decision: the same text in one spelling is right; two numbers are right only if they are the same rational
number, two words only if they are the same word; an expression goes to math-verify (Kydlíček, Hugging Face). Where that
reads nothing or is out of time, the text decides, which it did before: it was another one, so the answer is wrong.
`math_final` says what a response's answer is, `math_units` what is none of it, and both where others differ.
"""

import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

from lrm_align import limits
from lrm_align.errors import UserError
from lrm_align.scoring import math_final, math_text, math_units
from lrm_align.scoring.score import Score

WORKER = pathlib.Path(__file__).with_name("math_worker.py")
START = 120.0  # seconds that a process may take to import its libraries
LONGEST = math_units.LONGEST  # characters of an answer; whatever is longer is no final answer
VERSION = f"{metadata.version('math-verify')},4"  # the library's, and that of the rules around it

_BASED = re.compile(r"-?[0-9A-Fa-f]+_\d+")


class Verdict(NamedTuple):
    """Whether an answer is right, and who said so.

    Attributes:
      right: the decision.
      by: "text", "number", "words", "math-verify", or "fallback" where that could not say.
    """

    right: bool
    by: str


class Checker:
    r"""Compares answers; usable from any thread, and ended with `close` or a `with` block.

    >>> with Checker() as checker:
    ...     [verdict.right for verdict in checker.compare([("\\frac{1}{2}", "0.5"), ("x+1", "1+x"), ("x+1", "x-1")])]
    [True, True, False]

    Args:
      seconds: for one comparison, after which its process is ended and another started.
      workers: processes.

    Raises:
      UserError: no time or no process.
    """

    name, version = "math-verify", VERSION

    def __init__(self, seconds: float = 5.0, workers: int = 1):
        limits.count(workers, "Checker: workers", least=1)
        if not seconds > 0:
            raise UserError(f"Checker: seconds is {seconds}; it must be above 0")
        self.seconds = seconds
        self._workers = workers
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(_Worker())

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for _ in range(self._workers):
            self._idle.get().stop()
        for _ in range(self._workers):
            self._idle.put(_Worker())

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdict on each (gold, answer), both without the box around them."""
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(lambda pair: self._one(*pair), pairs))

    def score(self, golds: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """1 where a response's final answer is the gold one, else 0.

        Parts: `answered`, whether there is a final answer; `boxed`, whether it is in a box; `fallback`, whether
        math-verify could not say.

        Args:
          golds: known answers.
          responses: everything the assistant said, thinking included.
        """
        found = [
            math_final.final_answer(response, number=is_number(gold), expression=is_expression(gold))
            for gold, response in zip(golds, responses, strict=True)
        ]
        asked = [(gold, answer[0]) for gold, answer in zip(golds, found, strict=True) if answer]
        verdicts = iter(self.compare(asked))
        scores = []
        for answer in found:
            if answer is None:
                scores.append(Score(0.0, {"answered": 0.0}))
                continue
            verdict = next(verdicts)
            parts = {"answered": 1.0, "boxed": float(answer[1] == math_final.BOXED)}
            scores.append(Score(float(verdict.right), parts | ({"fallback": 1.0} if verdict.by == "fallback" else {})))
        return scores

    def _one(self, gold: str, answer: str) -> Verdict:
        decided = _decided(gold, answer)
        if decided is not None:
            return decided
        (_, left), (_, right) = _spelled(gold, answer)
        worker = self._idle.get()
        try:
            said = worker.ask(left, right, self.seconds)
        finally:
            self._idle.put(worker)
        if said is None or not (said[0] and said[1]):
            return Verdict(False, "fallback")
        return Verdict(said[2], "math-verify")


def check_gold(gold: str, where: str) -> str:
    r"""The gold answer, if there is one that something can be compared with.

    >>> check_gold("\\frac{1}{2}", "row 1")
    '\\frac{1}{2}'
    >>> check_gold("\\frac{1}{2", "row 1")
    Traceback (most recent call last):
    ...
    lrm_align.errors.UserError: row 1: the gold answer '\\frac{1}{2' cannot be read: its braces do not close; ...

    Raises:
      UserError: it is empty, or its braces do not close.
    """
    fault = "" if math_text.normal(gold) else "it is empty"
    if not fault and not math_text.balanced(gold):
        fault = "its braces do not close"
    if fault:
        raise UserError(f"{where}: the gold answer {gold!r} cannot be read: {fault}; mend the row or leave it out")
    return gold


@functools.lru_cache(4096)
def is_number(gold: str) -> bool:
    """Whether a known answer is a number, so that a bare number can be the answer and words behind it a unit."""
    return math_text.rational(math_text.assigned(math_text.normal(gold))[1]) is not None


@functools.lru_cache(4096)
def is_expression(gold: str) -> bool:
    """Whether a known answer is mathematics beyond a number, and no words or letter of a choice."""
    plain = math_text.assigned(math_text.normal(gold))[1]
    return not is_number(gold) and math_text.gold_words(plain) is None and math_text.letter(gold) is None


def _spelled(gold: str, answer: str) -> list[tuple[str | None, str]]:
    """(variable, value) of both."""
    spelled = math_text.normal(gold), math_text.normal(answer, number=is_number(gold))
    return [math_text.assigned(text) for text in spelled]


def _decided(gold: str, answer: str) -> Verdict | None:
    """What needs no algebra."""
    if len(answer) > LONGEST:
        return Verdict(False, "text")
    if (choice := math_text.letter(gold)) and math_text.words(math_text.normal(gold)) is not None:
        return Verdict(math_text.letter(answer) == choice, "words")
    (left_name, left), (right_name, right) = _spelled(gold, answer)
    if left_name and right_name and left_name != right_name:
        return Verdict(False, "text")
    if left == right:
        return Verdict(True, "text")
    if not right or not math_text.balanced(right):
        return Verdict(False, "text")
    numbers = math_text.rational(left), math_text.rational(right)
    if None not in numbers:
        return Verdict(numbers[0] == numbers[1], "number")
    if numbers[0] is not None and math_text.states(right):
        return Verdict(False, "words")
    if _BASED.fullmatch(left):  # math-verify does not read the base; whoever was asked for base 8 may leave it out
        return Verdict(right == left.partition("_")[0], "number")
    if (letters := math_text.gold_words(left)) is not None:
        return Verdict(math_text.unwrapped(right) == letters, "words")
    if math_text.words(right) is not None:
        return Verdict(False, "words")
    return None


class _Worker:
    """A process that compares, started on first use and again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def ask(self, gold: str, answer: str, seconds: float) -> list[bool] | None:
        """(gold was read, answer was read, equal); None where time or memory ran out."""
        process = self._process or self._start()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            line = self._line(process, seconds)
        except BrokenPipeError:
            line = None
        if line is None:
            self.stop()
            return None
        return json.loads(line)

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process, self._buffer = None, b""

    def _start(self) -> "subprocess.Popen[bytes]":
        # -P keeps this folder's names (score.py, levels.py) out of the way of other packages'.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        if self._line(self._process, START) != b"ready":
            self.stop()
            raise UserError("the process that compares answers did not start; is math-verify installed?")
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", seconds: float) -> bytes | None:
        assert process.stdout is not None
        end, descriptor = time.monotonic() + seconds, process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            data = os.read(descriptor, 1 << 16)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
