"""What a step of RL shows of itself: numbers for the row of metrics, warnings that name their cause, sample rollouts.

Pure functions on the host, of the groups that a step trained on and of the credit that it gave them.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align.advantages import Group, keep
from lrm_align.chat import Prompt
from lrm_align.rewards import Reward
from lrm_align.rl.group import TraceGroup
from lrm_align.traces import Trace

LENGTH_BINS = 16
MOSTLY = 0.5  # ours: a grader that leaves this share of the samples unscored is worth a warning
LARGE_GAP = 0.05  # ours: mean |log π_sampler - log π_learner| in nats of equal weights; bfloat16 gives about 0.01


class Lengths(NamedTuple):
    """A histogram of completion lengths: `counts[i]` have edges[i] < length ≤ edges[i + 1] tokens."""

    edges: list[float]
    counts: list[int]


def metrics(step: int, groups: Sequence[TraceGroup], dropped: Sequence[TraceGroup], credit: Group) -> dict[str, float]:
    """The numbers of a step; a share of nothing is left out.

    `staleness/mean`, `staleness/max`: step minus the number of the policy that sampled. `groups/without_spread`: share
    of the groups without credit; `groups/dropped`: groups that were sampled for the step and replaced.
    `samples/unscored`, `samples/truncated`: shares of the samples; `unscored/GRADER`: of one grader.
    `reward/mean`, `reward/CLASS`: of the scored samples. `length/mean`, `length/max`: tokens of a completion, with what
    was injected. `mode/NAME`, `mode/NAME/CLASS`: share of the samples, of those of the class.

    Args:
      step: number of the policy that the step starts from.
      groups: that it trains on.
      dropped: that were sampled for it and not accepted.
      credit: rewards, modes and classes of the groups, in their order.
    """
    if not groups:
        return {"groups/dropped": float(len(dropped))}
    traces = [trace for group in groups for trace in group.traces]
    staleness = np.array([step - group.policy for group in groups])
    scored_GxN = np.asarray(credit.scored)
    reward_GxN = np.where(scored_GxN, credit.reward_GxN, 0)
    lengths = np.array([trace.completion_ids.size for trace in traces])
    row = {
        "staleness/mean": staleness.mean(),
        "staleness/max": staleness.max(),
        "groups/without_spread": 1 - np.asarray(keep(credit)).mean(),
        "groups/dropped": len(dropped),
        "samples/unscored": 1 - scored_GxN.mean(),
        "samples/truncated": np.mean([truncated(trace) for trace in traces]),
        "length/mean": lengths.mean(),
        "length/max": lengths.max(),
    }
    row |= {f"unscored/{name}": len(reasons) / len(traces) for name, reasons in unscored(traces).items()}
    row |= _means("reward", "reward/mean", reward_GxN, scored_GxN, credit)
    if credit.mode_GxN is not None:
        for index, name in enumerate(credit.mode_names):
            did_GxN = np.asarray(credit.mode_GxN) == index
            row |= _means(f"mode/{name}", f"mode/{name}", did_GxN, np.ones_like(scored_GxN), credit)
    return {name: float(value) for name, value in row.items()}


def part_means(rewards: Sequence[Sequence[Reward]]) -> dict[str, float]:
    """`reward/part/NAME`: the mean of each named part of the rewards, over the samples that have it.

    >>> part_means([[Reward(1.0, {"safe": 1.0}), Reward(0.0, {"safe": 0.0, "form": 0.0}), Reward.unscored("?")]])
    {'reward/part/safe': 0.5, 'reward/part/form': 0.0}
    """
    values: dict[str, list[float]] = collections.defaultdict(list)
    for group in rewards:
        for reward in group:
            for name, value in reward.parts.items():
                values[name].append(value)
    return {f"reward/part/{name}": float(np.mean(found)) for name, found in values.items()}


def lengths(groups: Sequence[TraceGroup], limit: int) -> Lengths:
    """The lengths of the completions, in bins of equal width up to the limit of new tokens."""
    sizes = np.array([trace.completion_ids.size for group in groups for trace in group.traces])
    edges = np.linspace(0, max(limit, sizes.max(initial=1)), LENGTH_BINS + 1)
    at = np.clip(np.searchsorted(edges, sizes) - 1, 0, LENGTH_BINS - 1)
    return Lengths(edges.tolist(), np.bincount(at, minlength=LENGTH_BINS).tolist())


def time_shares(seconds: Mapping[str, float], total: float) -> dict[str, float]:
    """`time/NAME`: the share of a step's wall time that each activity took, and `time/other`, what is left of it.

    >>> time_shares({"rollout": 2.0, "train": 1.0}, 4.0)
    {'time/rollout': 0.5, 'time/train': 0.25, 'time/other': 0.25}
    """
    shares = {f"time/{name}": spent / total for name, spent in seconds.items()}
    return {**shares, "time/other": max(0.0, 1.0 - sum(shares.values()))}


def warnings(
    step: int,
    groups: Sequence[TraceGroup],
    rewards: Sequence[Sequence[Reward]],
    credit: Group,
    gap_mean: float | None = None,
) -> dict[str, str]:
    """What is wrong with a step, by a short name of the kind: the cause, and what would mend it.

    Args:
      step: number of the policy that the step starts from.
      groups: that it trains on.
      rewards: of their samples.
      credit: of their samples.
      gap_mean: mean |log π_sampler - log π_learner| over the sampled tokens, in nats; None where unknown.
    """
    if not groups:
        return {"spread": "no group that was sampled for the step has spread, nor has any that replaced them"}
    traces = [trace for group in groups for trace in group.traces]
    found = {}
    if all(truncated(trace) for trace in traces):
        found["truncated"] = _all_truncated(traces)
    for name, reasons in unscored(traces).items():
        if len(reasons) > MOSTLY * len(traces):
            reason, count = collections.Counter(reasons).most_common(1)[0]
            found[f"unscored/{name}"] = (
                f"grader {name!r} left {len(reasons)} of {len(traces)} samples unscored, {count} of them because: "
                f"{reason}"
            )
    missing = [reward.reason or "" for group in rewards for reward in group if reward.value is None]
    if len(missing) == len(traces):
        reason, count = collections.Counter(missing).most_common(1)[0]
        found["unscored"] = f"none of {len(traces)} samples has a reward, {count} of them because: {reason}"
    elif not np.asarray(keep(credit)).any():
        found["spread"] = _no_spread(traces, credit)
    stale = max(step - group.policy for group in groups)
    if gap_mean is not None and gap_mean > LARGE_GAP and stale == 0:
        found["gap"] = (
            f"sampler and learner give the same tokens log-probabilities that differ by {gap_mean:.3f} nats on average "
            f"with equal weights; below {LARGE_GAP} is usual. Are dtype, temperature or attention different, or did "
            'top_k, top_p or min_p leave out much? config.rl.old_logp = "recomputed" and a truncated importance weight '
            "limit the harm"
        )
    return found


def truncated(trace: Trace) -> bool:
    """Whether a sample ran into the limit of tokens."""
    return trace.stop_reason == "length"


def unscored(traces: Sequence[Trace]) -> dict[str, list[str]]:
    """{grader: the reasons of the samples that it left unscored}, for every grader of these traces."""
    reasons: dict[str, list[str]] = {}
    for trace in traces:
        for name, score in trace.scores.items():
            known = reasons.setdefault(name, [])
            if score["value"] is None:
                known.append(score["reason"])
    return reasons


def sample_rows(
    step: int,
    groups: Sequence[TraceGroup],
    rewards: Sequence[Sequence[Reward]],
    advantage_GxN: Any,
    prompt_of: Callable[[int], Prompt],
    text_of: Callable[[Trace], str],
    count: int,
) -> list[dict[str, Any]]:
    """Rollouts for people to read: of groups all over the step one sample each, another one with every step.

    Texts of models and prompts are data: `json.dumps` escapes them, and nothing else may print them.

    Args:
      step: of the run.
      groups: that it trains on.
      rewards: of their samples.
      advantage_GxN: of their samples.
      prompt_of: ticket -> prompt.
      text_of: trace -> what the assistant said.
      count: rows wanted; fewer where there are fewer groups.
    """
    advantages = np.asarray(advantage_GxN, np.float64)
    rows = []
    for g in np.linspace(0, len(groups) - 1, min(count, len(groups))).round().astype(int):
        group = groups[g]
        n = step % len(group.traces)
        trace, reward, prompt = group.traces[n], rewards[g][n], prompt_of(group.ticket)
        rows.append(
            {
                "step": step,
                "policy": group.policy,
                "ticket": group.ticket,
                "sample": trace.sample,
                "prompt_id": prompt.id,
                "label": prompt.label,
                "prompt": prompt.text,
                "text": text_of(trace),
                "stop_reason": trace.stop_reason,
                "scores": dict(trace.scores),
                "reward": reward.value,
                "parts": dict(reward.parts),
                "reason": reward.reason,
                "advantage": float(advantages[g, n]),
            }
        )
    return rows


def _means(stem: str, name: str, value_GxN: Any, counted_GxN: Any, credit: Group) -> dict[str, float]:
    """The mean under `name`, and those of the prompts of each class under `stem/CLASS`."""
    found = {name: _mean(value_GxN, counted_GxN)}
    if credit.class_G is not None:
        of_class_G = np.asarray(credit.class_G)
        for index, label in enumerate(credit.class_names):
            found[f"{stem}/{label}"] = _mean(value_GxN[of_class_G == index], counted_GxN[of_class_G == index])
    return {key: mean for key, mean in found.items() if mean is not None}


def _mean(values: np.ndarray, counted: np.ndarray) -> float | None:
    return float(values[counted].mean()) if counted.any() else None


def _all_truncated(traces: Sequence[Trace]) -> str:
    sizes = [trace.completion_ids.size for trace in traces]
    limits = {trace.sampling.get("max_new_tokens") for trace in traces}
    setting = "max_new_tokens" if set(sizes) == limits else "max_length"
    return (
        f"all {len(traces)} completions ran into the limit, after {min(sizes)} to {max(sizes)} tokens, and none has an "
        f"end to learn from: raise config.rl.sampling.{setting}; if that does not help, the model never writes "
        "its end-of-turn token, or the template lacks it"
    )


def _no_spread(traces: Sequence[Trace], credit: Group) -> str:
    scored = np.asarray(credit.scored)
    values = np.unique(np.asarray(credit.reward_GxN)[scored])
    if len(values) == 1:
        cause = f"every sample earns {values[0]:g}: the reward is constant, or the prompts are all too easy or too hard"
    else:
        cause = "the samples of a prompt earn the same: other prompts, a higher temperature or a finer reward may help"
    if len({trace.completion_ids.tobytes() for trace in traces}) * 2 <= len(traces):
        cause += "; most samples are copies of each other: is the temperature too low?"
    return f"no group of {len(scored)} has spread, and the rewards teach nothing: {cause}"
