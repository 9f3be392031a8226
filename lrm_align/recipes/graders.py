"""Graders of the baselines that learn from rewards: a guard, a known answer, the form of the thinking."""

import re
from collections.abc import Callable, Mapping, Sequence

from lrm_align.errors import UserError
from lrm_align.rl.task import Rollout
from lrm_align.scoring import Guard, Score
from lrm_align.scoring.answers import LAST_NUMBER, exact, one_thought
from lrm_align.scoring.math_answers import Checker

WRONG, MASKED = "wrong", "masked"


class Safety:
    """p(safe) = 1 - p(unsafe) of a guard; unscored where the guard cannot decide.

    Args:
      guard: makes the guard, on first use.
      version: of the guard.
    """

    name = "safety"

    def __init__(self, guard: Callable[[], Guard], version: str):
        self._guard, self.version = guard, version

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        prompts, texts = [one.prompt.text for one in rollouts], [one.text for one in rollouts]
        scores = self._guard().score(prompts, texts)
        return [score if score.value is None else Score(1 - score.value, score.parts) for score in scores]


class Form:
    """Whether there is one thought, which ends."""

    name, version = "form", "1"

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [one_thought(rollout.text) for rollout in rollouts]


class Reference:
    """Whether the final answer equals the known one, as the evaluator compares them (`scoring.math_answers`).

    Args:
      answers: {prompt id: known answer}, read by `references.read_all`.
      checker: compares.
      truncated: what a sample is that ran into the limit: "wrong" (0), or "masked" (unscored).

    Raises:
      UserError: another word.
    """

    name = "answer"

    def __init__(self, answers: Mapping[str, str], checker: Checker, truncated: str = WRONG):
        _check_truncated(truncated)
        self._answers, self._checker, self._masked = answers, checker, truncated == MASKED
        self.version = checker.version

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        finished = [rollout for rollout in rollouts if rollout.finished]
        golds = [self._answers[rollout.prompt.id] for rollout in finished]
        scores = iter(self._checker.score(golds, [rollout.text for rollout in finished]))
        cut = Score.unscored("truncated") if self._masked else Score(0.0, {"answered": 0.0})
        return [next(scores) if rollout.finished else cut for rollout in rollouts]


class Answer:
    """Whether the final answer is the `meta["answer"]` of the prompt.

    Args:
      pattern: whose first group is the answer.
      truncated: what a sample is that ran into the limit: "wrong" (0), or "masked" (unscored).

    Raises:
      UserError: a pattern that is no regular expression with a group, or another word.
    """

    name, version = "answer", "1"

    def __init__(self, pattern: str = LAST_NUMBER, truncated: str = WRONG):
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise UserError(f"the answer's pattern {pattern!r} is no regular expression: {error}") from None
        if not groups:
            raise UserError(f"the answer's pattern {pattern!r} has no group; put parentheses around the answer")
        _check_truncated(truncated)
        self._pattern, self._masked = pattern, truncated == MASKED

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._one(rollout) for rollout in rollouts]

    def _one(self, rollout: Rollout) -> Score:
        if not rollout.finished and self._masked:
            return Score.unscored("truncated")
        return exact(rollout.text, rollout.prompt.meta["answer"], self._pattern)


def _check_truncated(truncated: str) -> None:
    if truncated not in (WRONG, MASKED):
        raise UserError(f"the answer's truncated is {truncated!r}; supported are {WRONG}, {MASKED}")
