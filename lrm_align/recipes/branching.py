"""The bootstrap of ASCL: both branches of every prompt, with the rules and without, filtered and balanced.

Ours, where the paper (arXiv 2602.13562) does not say whether there is a cold start: every prompt is sampled with the
tool (asked or forced to consult, if the config says so) and without; a trace stays if its form is whole, its branch is
what was wanted and the guard calls its answer safe; the frequent branch is thinned out to the number of the rare one.
All are trained on under the plain offer.
"""

import collections
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.recipes import filtering, rewriting
from lrm_align.recipes.consulting import CLASSES, CONSULT, DIRECT, Consulting
from lrm_align.recipes.filtering import KEEP, UNDECIDED, UNSAFE, Key, Verdict
from lrm_align.recipes.selection import KEPT
from lrm_align.recipes.stage import Summary
from lrm_align.sampling import Request, SamplingParams
from lrm_align.scoring import Guard
from lrm_align.traces import Trace, find_shards

OTHER = "the other branch"
THINNED = "one too many of its branch"
BALANCES = ("all", "class", "none")


def check(settings: ConfigDict, prompts: Sequence[Prompt]) -> None:
    """Refuses settings of the branches that cannot work.

    Raises:
      UserError: an unknown balance, or prompts of one label alone.
    """
    if settings.balance not in BALANCES:
        raise UserError(f"config.branches.balance is {settings.balance!r}; supported are {', '.join(BALANCES)}")
    if not 0 < settings.direct_share < 1:
        raise UserError(
            f"config.branches.direct_share is {settings.direct_share}; it is a share of the traces, above 0 and below 1"
        )
    labels = {prompt.label for prompt in prompts}
    if missing := sorted({"harmful", "benign"} - labels):
        raise UserError(
            f"config.prompts: none of {len(prompts)} prompts is {missing[0]}; when to consult is learned from both"
        )


def requests(
    consulting: Consulting, prompts: Sequence[Prompt], branches: ConfigDict, settings: ConfigDict, context: int
) -> list[Request]:
    """Both branches of every prompt: samples 0 … n-1 with the rules, n … 2n-1 without.

    Args:
      consulting: the conversation.
      prompts: to sample.
      branches: `config.branches`: `asked`, a system text that asks to consult; `opening`, how completions of the branch
        with the rules begin (both empty for the plain offer).
      settings: `config.sample`.
      context: positions that prompt and completion have.
    """
    params = SamplingParams(
        settings.temperature, settings.top_k, settings.top_p, settings.min_p, settings.max_new_tokens
    )
    n = settings.samples
    found = []
    for prompt in prompts:
        wanted = {"asked": branches.asked, "opening": branches.opening}
        found.append(consulting.request(prompt, params, context, samples=range(n), **wanted))
        found.append(consulting.request(prompt, params, context, samples=range(n, 2 * n), offered=False))
    return found


def judge(
    traces: Sequence[Trace], consulting: Consulting, samples: int, guard: Guard, threshold: float
) -> list[Verdict]:
    """What becomes of sampled traces, before the branches are balanced.

    Where the guard cannot decide, the trace is dropped and counted, never called safe.

    Args:
      traces: of `requests`.
      consulting: the conversation.
      samples: n of `requests`.
      guard: is shown the prompt and the final answer.
      threshold: of p(unsafe).
    """
    spoken = [consulting.spoken(trace) for trace in traces]
    faults = [
        found.fault or (None if found.mode == _wanted(trace.key, samples) else OTHER)
        for trace, found in zip(traces, spoken)
    ]
    verdicts = [Verdict(fault or KEEP) for fault in faults]
    asked = [number for number, fault in enumerate(faults) if fault is None]
    scores = guard.score(
        [traces[number].meta["prompt"] for number in asked], [spoken[number].answer or "" for number in asked]
    )
    for number, score in zip(asked, scores, strict=True):
        if score.value is None:
            verdicts[number] = Verdict(UNDECIDED, None, score.reason)
        else:
            verdicts[number] = Verdict(KEEP if score.value < threshold else UNSAFE, score.value)
    return verdicts


def balanced(
    verdicts: Mapping[Key, Verdict],
    samples: int,
    group_of: Callable[[Key], str],
    seed: int,
    direct_share: float = 0.5,
) -> dict[Key, Verdict]:
    """As many traces with the rules as without, or another share; what is too many is drawn by the seed.

    Args:
      verdicts: of all traces.
      samples: n of `requests`.
      group_of: within which the branches are balanced.
      seed: draws.
      direct_share: of the traces without the rules in all that stay.

    Raises:
      UserError: a group without any trace of one of the branches.
    """
    kept: dict[str, dict[str, list[Key]]] = collections.defaultdict(lambda: {CONSULT: [], DIRECT: []})
    for key, verdict in verdicts.items():
        if verdict.outcome == KEEP:
            kept[group_of(key)][_wanted(key, samples)].append(key)
    chosen = dict(verdicts)
    for group, branches in kept.items():
        sizes = {name: len(keys) for name, keys in branches.items()}
        if not min(sizes.values()):
            raise UserError(
                f"branches: no trace of {min(sizes, key=lambda name: sizes[name])!r} was kept ({group}: {sizes}); "
                'config.branches.asked or opening may help, or balance = "all"'
            )
        shares = {CONSULT: 1 - direct_share, DIRECT: direct_share}
        total = min(sizes[name] / share for name, share in shares.items())
        for name, keys in branches.items():
            keys.sort(key=lambda key: hashlib.sha256(f"{seed}/{key[0]}/{key[1]}".encode()).digest())
            for key in keys[max(round(total * shares[name]), 1) :]:
                chosen[key] = chosen[key]._replace(outcome=THINNED)
    return chosen


def run(
    directory: epath.Path,
    sampled: epath.Path,
    consulting: Consulting,
    guard: Guard,
    config: ConfigDict,
) -> Summary:
    """Judges and balances the branches, and writes what stays to DIRECTORY/sft under the plain offer.

    Returns:
      `{"kept": {"class, branch": n}, "dropped": {"class, branch: reason": n}, "guard": …}`.

    Raises:
      UserError: nothing of one of the branches is left.
    """
    shards, samples = find_shards(sampled), config.sample.samples
    classes = {key: next(name for name in CLASSES if name in tags) for key, tags in _tags(shards).items()}

    def decide(traces: Sequence[Trace]) -> list[Verdict]:
        return judge(traces, consulting, samples, guard, config.guard.threshold)

    verdicts = filtering.judge_shards(shards, directory, decide)
    if config.branches.balance != "none":
        by_class, share = config.branches.balance == "class", config.branches.direct_share
        verdicts = balanced(verdicts, samples, lambda key: classes[key] if by_class else "all", config.seed, share)
    names = {key: f"{classes[key]}, {_wanted(key, samples)}" for key in classes}
    counts: dict[str, Any] = filtering.counted(verdicts, names)
    counts["guard"] = f"{guard.name} {guard.version}"
    identity = digest([counts, [shard.manifest.sha256 for shard in shards]])
    filtering.write_kept(
        shards,
        verdicts,
        directory / KEPT,
        lambda trace: trace.replace(prompt_ids=consulting.prompt_ids(rewriting.asked(trace))),
        identity,
    )
    return counts


def _wanted(key: Key, samples: int) -> str:
    return CONSULT if key[1] < samples else DIRECT


def _tags(shards: Any) -> dict[Key, tuple[str, ...]]:
    return {trace.key: trace.tags for shard in shards for trace in filtering.read_shard(shard)}
