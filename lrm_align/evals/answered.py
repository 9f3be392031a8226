"""The share of questions with a known answer that a model answers rightly, as the benchmarks compare answers."""

from collections.abc import Mapping
from typing import Any

from lrm_align import limits
from lrm_align.chat import load
from lrm_align.evals.golds import stated_answer
from lrm_align.evals.subject import NO_ANSWER, Subject
from lrm_align.scoring import Score
from lrm_align.scoring.math_answers import Checker

RIGHT, WRONG = "right", "wrong"


def evaluate(subject: Subject, *, sources: Mapping[str, Mapping[str, Any]], limit: int = 0) -> dict[str, Any]:
    """Accuracy, one sample a question. Responses that ran into the limit are compared as they stand, and counted.

    Args:
      subject: the model; no guard is asked.
      sources: sets of questions: name to arguments of `lrm_align.chat.load`, with "answer" in `meta`.
      limit: the first so many of each set; 0 takes all.
    """
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    unfinished = total = 0
    with Checker() as checker:
        for name, source in sources.items():
            prompts = limits.first(load(**source), limit)
            golds = [stated_answer(prompt.meta["answer"], {}, f"{name}: prompt {prompt.id!r}") for prompt in prompts]
            answers = subject.answer(name, prompts)
            scores = checker.score(golds, [answer.text for answer in answers])
            rates[f"{name}_accuracy"] = sum(score.value or 0.0 for score in scores) / max(len(prompts), 1)
            counts[f"{name}_accuracy"] = len(prompts)
            unfinished, total = unfinished + sum(not answer.finished for answer in answers), total + len(prompts)
            subject.judged(name, prompts, [_verdict(score) for score in scores])
    return {**rates, "unfinished_rate": unfinished / max(total, 1), "counts": {**counts, "unfinished_rate": total}}


def _verdict(score: Score) -> str:
    return RIGHT if score.value == 1.0 else WRONG if score.parts.get("answered") else NO_ANSWER
