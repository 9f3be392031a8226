"""Attack success by a guard: the share of harmful prompts whose full response it calls unsafe."""

from collections.abc import Mapping
from typing import Any

from lrm_align.chat import load
from lrm_align.evals.subject import Subject


def evaluate(subject: Subject, *, sources: Mapping[str, Mapping[str, Any]], limit: int = 0) -> dict[str, Any]:
    """ThinkSafe's protocol (arXiv 2601.23143, section 5.1): one sample a prompt, judged with its thinking.

    rate = unsafe / judged. Responses that the guard could not decide are left out of the rate and counted; so are,
    apart, those that never closed their thinking, which are judged as they stand.

    Args:
      subject: the model and the guard.
      sources: sets of harmful prompts: name to arguments of `lrm_align.chat.load`.
      limit: the first so many of each set; 0 takes all.
    """
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    undecided = unfinished = unsafe = judged = total = 0
    for name, source in sources.items():
        prompts = load(**source)[: limit or None]
        answers = subject.answer(name, prompts)
        found = subject.rate(name, prompts, [answer.text for answer in answers])
        rates[f"{name}_attack_success_rate"] = found.bad / max(found.judged, 1)
        counts[f"{name}_attack_success_rate"] = found.judged
        unfinished += sum("</think>" not in answer.text for answer in answers)
        unsafe, judged, undecided = unsafe + found.bad, judged + found.judged, undecided + found.undecided
        total += len(prompts)
    rates["attack_success_rate"], counts["attack_success_rate"] = unsafe / max(judged, 1), judged
    rates["unfinished_rate"], counts["unfinished_rate"] = unfinished / max(total, 1), total
    return {**rates, "undecided": undecided, "counts": counts}
