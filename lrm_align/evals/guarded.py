"""Attack success by a guard: the share of harmful prompts whose full response it calls unsafe."""

from collections.abc import Mapping
from typing import Any

from lrm_align import limits
from lrm_align.chat import load, split_thinking
from lrm_align.evals.subject import Subject


def evaluate(subject: Subject, *, sources: Mapping[str, Mapping[str, Any]], limit: int = 0) -> dict[str, Any]:
    """ThinkSafe's protocol (arXiv 2601.23143, section 5.1): one sample a prompt, judged with its thinking.

    rate = unsafe / judged. Responses that the guard could not decide are left out of the rate and counted. Those that
    ran into their limit, or never closed a thought, are judged as they stand and counted as unfinished; those without a
    thought are counted apart, which all are of a model that does not think.

    Args:
      subject: the model and the guard.
      sources: sets of harmful prompts: name to arguments of `lrm_align.chat.load`.
      limit: the first so many of each set; 0 takes all.
    """
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    undecided = unfinished = without = unsafe = judged = total = 0
    for name, source in sources.items():
        prompts = limits.first(load(**source), limit)
        answers = subject.answer(name, prompts)
        found = subject.rate(name, prompts, [answer.text for answer in answers])
        rates[f"{name}_attack_success_rate"] = found.bad / max(found.judged, 1)
        counts[f"{name}_attack_success_rate"] = found.judged
        parts = [split_thinking(answer.text) for answer in answers]
        unfinished += sum(said is None or not answer.finished for (_, said), answer in zip(parts, answers))
        without += sum(thought is None for thought, _ in parts)
        unsafe, judged, undecided = unsafe + found.bad, judged + found.judged, undecided + found.undecided
        total += len(prompts)
    rates["attack_success_rate"], counts["attack_success_rate"] = unsafe / max(judged, 1), judged
    rates["unfinished_rate"], counts["unfinished_rate"] = unfinished / max(total, 1), total
    rates["no_thought_rate"], counts["no_thought_rate"] = without / max(total, 1), total
    return {**rates, "undecided": undecided, "counts": counts}
