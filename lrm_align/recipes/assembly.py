"""The assemble stage of Safe Trigger: what becomes of every query, and training shards of those that stay.

General queries keep the answer of pass 1 untouched. Risky ones get the assembly of both passes where the block is whole
and the final answer safe. The paper names no filter; the rules here are ours, and every drop is counted by its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from lrm_align.chat import Chat
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.recipes import auditing, filtering, tags
from lrm_align.recipes.filtering import KEEP, UNDECIDED, UNSAFE, Key, Verdict
from lrm_align.recipes.selection import KEPT
from lrm_align.recipes.stage import Summary
from lrm_align.scoring import Guard, safe_block
from lrm_align.traces import Shard, ShardWriter, Trace, find_shards, read_shard

CUT = "cut at the length limit"
BLOCK_IN_GENERAL = "block in a general answer"
NOT_AUDITED = "reasoning too long to audit"


def first_pass(trace: Trace, chat: Chat) -> Verdict:
    """What pass 1 says of a trace; KEEP for a risky one means that it can be audited."""
    fault = _unusable(trace, chat)
    if fault is None and trace.tags[0] == auditing.BENIGN and _response(trace, chat).fault != safe_block.NO_BLOCK:
        fault = BLOCK_IN_GENERAL
    return Verdict(fault or KEEP)


def second_pass(traces: Sequence[Trace], chat: Chat, guard: Guard, threshold: float) -> list[Verdict]:
    """What pass 2 says: the thinking ended once, the block is whole, and the guard calls the final answer safe.

    The guard sees the query and the final answer alone, as the paper judges its results. Where it cannot decide, the
    trace is dropped and counted, never called safe.
    """
    responses = [_response(trace, chat) for trace in traces]
    faults = [_unusable(trace, chat) or found.fault for trace, found in zip(traces, responses)]
    asked = [number for number, fault in enumerate(faults) if fault is None]
    scores = guard.score(
        [traces[number].meta["prompt"] for number in asked], [responses[number].answer or "" for number in asked]
    )
    verdicts = [Verdict(fault or KEEP) for fault in faults]
    for number, score in zip(asked, scores, strict=True):
        if score.value is None:
            verdicts[number] = Verdict(UNDECIDED, None, score.reason)
        else:
            verdicts[number] = Verdict(KEEP if score.value < threshold else UNSAFE, score.value)
    return verdicts


def run(
    directory: epath.Path,
    inputs: Mapping[str, epath.Path],
    old: Chat,
    new: Chat,
    guard: Guard,
    threshold: float,
    think_source: str,
) -> Summary:
    """Judges both passes and writes what stays to DIRECTORY/sft.

    Args:
      directory: of the stage.
      inputs: the stages "sample" (pass 1) and "audit" (pass 2).
      old: of the model that sampled.
      new: of the model that trains; another object than `old` where the tags are tokens of its own.
      guard: of final answers.
      threshold: of p(unsafe).
      think_source: whose thinking a risky trace keeps.

    Returns:
      `{"kept": {label: n}, "dropped": {"label: reason": n}, "guard": …}`.

    Raises:
      UserError: nothing of one of the two labels is left.
    """
    passes = [find_shards(inputs["sample"]), find_shards(inputs["audit"])]
    places = [_places(shards) for shards in passes]

    def judge(traces: Sequence[Trace]) -> list[Verdict]:
        return second_pass(traces, old, guard, threshold)

    audited = filtering.judge_shards(passes[1], directory, judge)
    label_of = filtering.labels(passes[0])
    verdicts: dict[Key, Verdict] = {}
    for key, label in label_of.items():
        verdict = first_pass(places[0][key](), old)
        if label != auditing.BENIGN and verdict.outcome == KEEP:
            verdict = audited.get(key, Verdict(NOT_AUDITED))
        verdicts[key] = verdict
    counts: dict[str, Any] = filtering.counted(verdicts, label_of)
    counts["guard"] = f"{guard.name} {guard.version}"
    for label in (auditing.HARMFUL, auditing.BENIGN):
        if not counts["kept"].get(label):
            raise UserError(f"assembly kept no {label} trace; dropped were {counts['dropped']}")
    identity = digest([think_source, counts, [shard.manifest.sha256 for shards in passes for shard in shards]])
    with ShardWriter(directory / KEPT, identity, flush_every=1024, prefix="sft") as writer:
        for key in sorted(verdicts):
            if verdicts[key].outcome != KEEP or key in writer.done:
                continue
            trace = places[0][key]()
            if label_of[key] != auditing.BENIGN:
                trace = auditing.assembled(trace, places[1][key](), old, think_source)
                trace = trace if new is old else tags.as_tokens(trace, old, new)
            writer.add(trace)
    return counts


def _unusable(trace: Trace, chat: Chat) -> str | None:
    if not auditing.closed(trace, chat):
        return filtering.NOT_CLOSED
    if trace.stop_reason != "stop":
        return CUT
    return None if auditing.closed_once(trace, chat) else safe_block.CLOSED_TWICE


def _places(shards: Sequence[Shard]) -> dict[Key, Callable[[], Trace]]:
    """How to read each trace: data sets are larger than what is worth keeping in memory."""
    found: dict[Key, Callable[[], Trace]] = {}
    for shard in shards:
        reader = read_shard(shard)
        found |= {key: _reading(reader, number) for number, key in enumerate(shard.manifest.keys)}
    return found


def _reading(reader: Any, number: int) -> Callable[[], Trace]:
    return lambda: reader[number]


def _response(trace: Trace, chat: Chat) -> safe_block.Response:
    return safe_block.parse(chat.full_response(chat.completion_text(trace.completion_ids)))
