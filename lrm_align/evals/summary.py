"""From verdicts to what a report prints: rates with intervals, what was not decided, what never finished."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat import split_thinking
from lrm_align.evals.passes import passes
from lrm_align.evals.statistics import bootstrap, wilson

HIT = 0.5


class Verdict(NamedTuple):
    """One response and what was said of it; a line of a verdicts file.

    Attributes:
      id: of the prompt.
      sample: number of the sample.
      kind: of the prompt.
      prompt: the user turn.
      answer: the known answer; None without one.
      text: everything that the assistant said, thinking included.
      finished: False where it ran into its limit.
      value: the judge's; None where it could not decide.
      parts: of the score.
      reason: why there is no value.
    """

    id: str
    sample: int
    kind: str
    prompt: str
    answer: str | None
    text: str
    finished: bool
    value: float | None
    parts: Mapping[str, float]
    reason: str | None


def by_prompt(verdicts: Sequence[Verdict]) -> dict[str, list[float]]:
    """The values of the judged samples of each prompt; a prompt of which none was judged is left out."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    for verdict in verdicts:
        if verdict.value is not None:
            found[verdict.id].append(float(verdict.value >= HIT))
    return dict(found)


def summarised(verdicts: Sequence[Verdict], metric: str) -> dict[str, Any]:
    """The numbers of one benchmark.

    rate = mean over prompts of (hits / judged samples), avg@k where each has k; its interval is Wilson's where a prompt
    has one sample, and the bootstrap over prompts where it has more. Unscored responses are in no rate; `undecided`
    counts them by reason. Where nothing was judged the rate is None, which is not 0. pass@k is there for accuracies of
    several samples. Kinds have rates of their own.

    Args:
      verdicts: of all responses.
      metric: its name.
    """
    values = by_prompt(verdicts)
    means = [sum(found) / len(found) for found in values.values()]
    several = any(len(found) > 1 for found in values.values())
    undecided = collections.Counter(_short(verdict.reason) for verdict in verdicts if verdict.value is None)
    closed = [verdict for verdict in verdicts if split_thinking(verdict.text)[1] is not None]
    whole = by_prompt([verdict for verdict in closed if verdict.finished])
    out: dict[str, Any] = {
        "metric": metric,
        "rate": _mean(means),
        "interval": list(_interval(means, several)) if means else None,
        "interval_kind": "bootstrap over prompts, 95 %" if several else "Wilson, 95 %",
        "prompts": len({verdict.id for verdict in verdicts}),
        "responses": len(verdicts),
        "judged": sum(map(len, values.values())),
        "judged_prompts": len(values),
        "undecided": dict(undecided),
        "unfinished_thoughts": len(verdicts) - len(closed),
        "truncated": sum(not verdict.finished for verdict in verdicts),
        "rate_of_finished": _mean([sum(found) / len(found) for found in whole.values()]),
        "fallbacks": sum(bool(verdict.parts.get("fallback")) for verdict in verdicts),
        "by_kind": _kinds(verdicts),
    }
    if several and metric == "accuracy":
        out["pass_at_k"] = {
            str(k): {"value": _mean(each), "interval": list(bootstrap(each))}
            for k, each in passes(list(values.values())).items()
        }
    return out


def _kinds(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    found: dict[str, list[float]] = collections.defaultdict(list)
    kinds = {verdict.id: verdict.kind for verdict in verdicts}
    for id, values in by_prompt(verdicts).items():
        found[kinds[id]].append(sum(values) / len(values))
    if len(found) < 2:
        return {}
    return {kind: {"rate": sum(each) / len(each), "prompts": len(each)} for kind, each in sorted(found.items())}


def _interval(means: Sequence[float], several: bool) -> tuple[float, float]:
    return bootstrap(means) if several else wilson(sum(means) / len(means), len(means))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _short(reason: str | None) -> str:
    """A reason without its numbers, so that equal ones are counted together."""
    return (reason or "unknown").partition(":")[0][:80]
