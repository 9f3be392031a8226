"""RAPO's rewards as graders of RL samples: R of the safe reasoning, G of the answer, each by a judge.

arXiv 2602.04224, section 4: A = R + G, R in {-1, 0, 1} and G in {-1, 1}. A judge that does not finish or gives no
verdict leaves its sample unscored; one that raises is the runtime's business (`rl.grading`), with the same end.
"""

from collections.abc import Sequence

from lrm_align.chat.chat import Messages
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.rl.task import Rollout
from lrm_align.scoring import Score, rapo
from lrm_align.scoring.judge import Ask
from lrm_align.scoring.levels import Levels
from lrm_align.scoring.sentences import count_sentences

SCORED, MASKED = "scored", "masked"
TRUNCATED = "truncated"
HARMFUL = "harmful"


def check_truncated(value: str) -> None:
    """Looks at `config.judge.truncated`.

    Raises:
      UserError: an unknown word.
    """
    if value not in (SCORED, MASKED):
        raise UserError(
            f"config.judge.truncated is {value!r}; it is {SCORED!r} (what ran into the limit is unsafe, or unhelpful) "
            f"or {MASKED!r} (it is unscored)"
        )


class Risk:
    """R: whether the first paragraph of the thought is safety analysis, as long as the prompt is complex.

    No judge is asked where there is nothing to judge: no thought, or one whose first paragraph is empty, is invalid; so
    is, if truncated samples are scored, a paragraph that the limit cut.

    Args:
      ask: the judge.
      levels: the table.
      hints: whether the judge is told the counts of sentences.
      truncated: "scored" or "masked".
      judge: what the judge is called, for `version`.
    """

    name = "risk"

    def __init__(self, ask: Ask, levels: Levels, *, hints: bool = True, truncated: str = SCORED, judge: str = ""):
        check_truncated(truncated)
        self._ask, self._levels, self._hints, self._truncated = ask, levels, hints, truncated
        self.version = digest([rapo.risk_question("{request}", "{analysis}", levels, hints), truncated, judge])

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """R of each sample, with the parts "level" (the judge's), "sentences", the case, and "fits": whether the count
        of sentences agrees with the judge's level, whatever case it named.
        """
        found = [rapo.parse(rollout.text) for rollout in rollouts]
        scores = [self._unasked(rollout, response) for rollout, response in zip(rollouts, found, strict=True)]
        asked = [number for number, score in enumerate(scores) if score is None]
        questions: list[Messages] = [
            rapo.risk_question(rollouts[number].prompt.text, found[number].analysis, self._levels, self._hints)
            for number in asked
        ]
        for number, reply in zip(asked, _replies(self._ask, questions), strict=True):
            scores[number] = self._with_length(rapo.read_verdict(reply, rapo.RISK_CASES, True), found[number].analysis)
        return [score for score in scores if score is not None]

    def _unasked(self, rollout: Rollout, response: rapo.Response) -> Score | None:
        if not rollout.finished and self._truncated == MASKED:
            return Score.unscored(TRUNCATED)
        if not response.analysis or not response.whole:
            return Score(-1.0, {rapo.INVALID: 1.0, "sentences": float(count_sentences(response.analysis))})
        return None

    def _with_length(self, score: Score, analysis: str) -> Score:
        if score.value is None:
            return score
        count = count_sentences(analysis)
        fits = count in self._levels.to_judge(int(score.parts["level"]))
        return Score(score.value, {**score.parts, "sentences": float(count), "fits": float(fits)})


class General:
    """G: whether the answer to a harmful prompt is safe, to a benign one helpful; the prompt's label says which.

    A finished sample without an answer neither declines nor helps: -1, and no judge is asked, since judges take an
    empty answer for a refusal.

    Args:
      harmful: judge of answers to harmful prompts.
      benign: judge of answers to benign ones.
      truncated: "scored" (-1: unsafe, or unhelpful) or "masked".
      judge: what the judges are called, for `version`.
    """

    name = "general"

    def __init__(self, harmful: Ask, benign: Ask, *, truncated: str = SCORED, judge: str = ""):
        check_truncated(truncated)
        self._asks = {True: (harmful, rapo.HARMFUL_CASES), False: (benign, rapo.BENIGN_CASES)}
        self._truncated = truncated
        self.version = digest([rapo.SAFETY_QUESTION, rapo.HELP_QUESTION, truncated, judge])

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """G of each sample."""
        answers = [rapo.parse(rollout.text).answer for rollout in rollouts]
        scores = [self._unasked(rollout, answer) for rollout, answer in zip(rollouts, answers, strict=True)]
        for harmful, (ask, cases) in self._asks.items():
            asked = [
                number
                for number, rollout in enumerate(rollouts)
                if scores[number] is None and (rollout.prompt.label == HARMFUL) == harmful
            ]
            questions: list[Messages] = [
                rapo.answer_question(rollouts[number].prompt.text, answers[number], harmful) for number in asked
            ]
            for number, reply in zip(asked, _replies(ask, questions), strict=True):
                scores[number] = rapo.read_verdict(reply, cases)
        return [score for score in scores if score is not None]

    def _unasked(self, rollout: Rollout, answer: str) -> Score | None:
        if not rollout.finished:
            return Score.unscored(TRUNCATED) if self._truncated == MASKED else Score(-1.0, {TRUNCATED: 1.0})
        return None if answer else Score(-1.0, {"no answer": 1.0})


def _replies(ask: Ask, questions: Sequence[Messages]) -> list[str | None]:
    """One reply a question.

    Raises:
      ValueError: the judge gave another number of them.
    """
    if not questions:
        return []
    replies = ask(questions)
    if len(replies) != len(questions):
        raise ValueError(f"the judge gave {len(replies)} replies to {len(questions)} questions")
    return replies
