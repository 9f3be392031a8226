"""Grading: every sample gets a score from every grader, or a reason why there is none; one bad sample costs itself.

A grader runs in a thread of its own, so that a time limit holds wherever the caller runs and whatever the grader waits
for. What it raises on a batch makes it be asked sample by sample. A mistake in its form (a wrong number of scores) ends
the run, since it would never end by itself.
"""

import collections
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lrm_align.errors import UserError, one_line
from lrm_align.rl.task import Grader, Rollout
from lrm_align.scoring import Score

MOST_ABANDONED = 8  # hung threads that a process carries on with
UNREACHABLE = 3  # samples in a row for which nobody answered, after which the others are not asked
_ABANDONED = "abandoned grader"


class Graded(NamedTuple):
    """The scores of a batch.

    Attributes:
      scores: {grader: score} of each sample, in order.
      faults: what went wrong, a line each: which grader, for how many samples, and how. A grader that says by itself
        that it cannot decide is no fault.
    """

    scores: list[dict[str, Score]]
    faults: list[str]


def grade(graders: Mapping[str, Grader], rollouts: Sequence[Rollout], seconds: float) -> Graded:
    """Asks each grader about all samples.

    A sample is unscored, with the reason, where its grader raises, does not answer in time, or cannot reach its judge.
    `KeyboardInterrupt`, `SystemExit` and `UserError` of a grader end the run.

    Args:
      graders: by name.
      rollouts: the samples.
      seconds: that each grader has for all samples together; 0 for no limit. What it scored by then counts.

    Raises:
      UserError: a grader that gives something else than a `Score` for each sample; too many that hang.
    """
    scores: list[dict[str, Score]] = [{} for _ in rollouts]
    faults = []
    for name, grader in graders.items() if rollouts else ():
        found, went_wrong = _timed(name, grader, rollouts, seconds)
        for sample, score in zip(scores, found, strict=True):
            sample[name] = score
        faults += [f"grader {name!r}: {count} of {len(rollouts)} samples: {how}" for how, count in went_wrong.items()]
    return Graded(scores, faults)


def _timed(
    name: str, grader: Grader, rollouts: Sequence[Rollout], seconds: float
) -> tuple[list[Score], collections.Counter[str]]:
    """The scores of a grader, and how many samples it failed on, by how."""
    work = _Work(name, grader, rollouts)
    thread = threading.Thread(target=work.run, name=f"grader {name}", daemon=True)
    thread.start()
    thread.join(seconds or None)
    late = thread.is_alive()
    if late:
        work.given_up.set()
        thread.name = f"{_ABANDONED} {name}"
        _check_abandoned(name, seconds)
    elif work.error is not None:
        raise work.error
    slow = f"took longer than {seconds:g} s"
    scores = [Score.unscored(f"the grader {slow}") if score is None else score for score in list(work.scores)]
    failed = collections.Counter(work.failed.copy().values())
    if late:
        failed[slow] = sum(score.reason == f"the grader {slow}" for score in scores)
    return scores, failed


def _check_abandoned(name: str, seconds: float) -> None:
    hung = [thread.name for thread in threading.enumerate() if thread.name.startswith(_ABANDONED)]
    if len(hung) > MOST_ABANDONED:
        raise UserError(
            f"grader {name!r} hangs: {len(hung)} calls of graders have not come back, the last after {seconds:g} s; "
            "give it a time limit of its own, or raise config.rl.grade_seconds"
        )


class _Work:
    """One grader and one batch; `run` is what the thread does, and the rest is read when it ended or is given up."""

    def __init__(self, name: str, grader: Grader, rollouts: Sequence[Rollout]):
        self._name, self._grader, self._rollouts = name, grader, rollouts
        self.scores: list[Score | None] = [None] * len(rollouts)
        self.failed: dict[int, str] = {}  # sample: how
        self.error: BaseException | None = None  # what ends the run
        self.given_up = threading.Event()

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error  # raised where the caller waits

    def _run(self) -> None:
        try:
            self.scores[:] = self._ask(self._rollouts)
            return
        except UserError:
            raise
        except Exception as error:
            if len(self._rollouts) == 1:
                self._fail(0, error)
                return
        unanswered = 0
        for index, rollout in enumerate(self._rollouts):
            if self.given_up.is_set():
                return
            try:
                [self.scores[index]] = self._ask([rollout])
                unanswered = 0
            except UserError:
                raise
            except Exception as error:
                self._fail(index, error)
                unanswered = unanswered + 1 if isinstance(error, OSError) else 0
                if unanswered == UNREACHABLE:
                    for other in range(index + 1, len(self._rollouts)):
                        self._fail(other, error)
                    return

    def _ask(self, rollouts: Sequence[Rollout]) -> list[Score]:
        given = self._grader.grade(rollouts)
        if not isinstance(given, Sequence):
            raise self._form(f"gave a {type(given).__name__}")
        if len(given) != len(rollouts):
            raise self._form(f"gave {len(given)} scores for {len(rollouts)} samples")
        strangers = [type(score).__name__ for score in given if not isinstance(score, Score)]
        if strangers:
            raise self._form(f"gave a {strangers[0]} among {len(given)} scores")
        return list(given)

    def _form(self, found: str) -> UserError:
        kind = type(self._grader)
        return UserError(
            f"grader {self._name!r} ({kind.__module__}:{kind.__qualname__}) {found}; wanted a list with one "
            "lrm_align.scoring.Score for each sample, in order; Score.unscored(reason) where it cannot decide"
        )

    def _fail(self, index: int, error: Exception) -> None:
        how = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
        how = f"unreachable, {how}" if isinstance(error, OSError) else f"raised {how}"
        self.failed[index] = how
        self.scores[index] = Score.unscored(f"the grader {how}" if how.startswith("raised") else how)
