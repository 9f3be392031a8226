"""The assemble stage of RAPO: what becomes of every prompt of stage 1, and training shards of those that stay.

The authors' code drops what ran into a limit or is too short, and does not look whether a harmful prompt was refused;
`guarded` (ours) has a guard look. Every drop is counted by its reason.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from lrm_align.chat import Chat, Prompt
from lrm_align.config import digest
from lrm_align.recipes import auditing, filtering
from lrm_align.recipes.assembly import CUT
from lrm_align.recipes.filtering import KEEP, Verdict
from lrm_align.recipes.selection import KEPT
from lrm_align.recipes.stage import Summary
from lrm_align.scoring import Guard, safe_block
from lrm_align.scoring.rapo import parse
from lrm_align.scoring.sentences import count_sentences
from lrm_align.traces import Trace, find_shards, read_shard

NO_ANSWER = "no answer"


def judge(traces: Sequence[Trace], chat: Chat, guard: Guard | None, threshold: float) -> list[Verdict]:
    """Verdicts on what pass 2 sampled: it ended, its thinking ended once, there is an answer, and the guard agrees.

    Args:
      traces: of pass 2.
      chat: of the model.
      guard: shown the prompt and the whole response; None where none is asked. Where it cannot decide, the trace is
        dropped and counted, never called safe.
      threshold: of p(unsafe).
    """
    verdicts = [Verdict(_fault(trace, chat) or KEEP) for trace in traces]
    if guard is None:
        return verdicts
    asked = [number for number, verdict in enumerate(verdicts) if verdict.outcome == KEEP]
    judged = filtering.judge([traces[number] for number in asked], chat, guard, threshold)
    for number, verdict in zip(asked, judged, strict=True):
        verdicts[number] = verdict
    return verdicts


def run(
    directory: epath.Path,
    continued: epath.Path,
    chat: Chat,
    guard: Guard | None,
    threshold: float,
    prompts: Sequence[Prompt],
    dropped: Mapping[str, str],
) -> Summary:
    """Judges pass 2 and writes what stays to DIRECTORY/sft.

    Args:
      directory: of the stage.
      continued: the stage of pass 2.
      chat: of the model.
      guard: or None.
      threshold: of p(unsafe).
      prompts: of stage 1.
      dropped: {prompt id: reason} of those that did not come to pass 2.

    Returns:
      `{"kept": {label: n}, "dropped": {"label: reason": n}, "guard": …, "lengths": {level: mean sentences}}`.

    Raises:
      UserError: nothing is left.
    """
    shards = find_shards(continued)
    verdicts = filtering.judge_shards(shards, directory, lambda traces: judge(traces, chat, guard, threshold))
    counts: dict[str, Any] = filtering.counted(verdicts, filtering.labels(shards))
    label_of = {prompt.id: prompt.label for prompt in prompts}
    earlier = collections.Counter(f"{label_of[id_]}: {reason}" for id_, reason in dropped.items())
    counts["dropped"] = dict(sorted({**earlier, **counts["dropped"]}.items()))
    counts["guard"] = "none" if guard is None else f"{guard.name} {guard.version}"
    identity = digest([counts, [shard.manifest.sha256 for shard in shards]])
    filtering.write_kept(shards, verdicts, directory / KEPT, lambda trace: trace, identity)
    counts["lengths"] = lengths([trace for shard in find_shards(directory / KEPT) for trace in read_shard(shard)], chat)
    return counts


def lengths(traces: Sequence[Trace], chat: Chat) -> dict[str, float]:
    """Mean sentences of the safe reasoning by level."""
    found: dict[int, list[int]] = collections.defaultdict(list)
    for trace in traces:
        text = chat.full_response(chat.completion_text(trace.completion_ids))
        found[trace.meta["level"]].append(count_sentences(parse(text).analysis))
    return {str(level): sum(counts) / len(counts) for level, counts in sorted(found.items())}


def _fault(trace: Trace, chat: Chat) -> str | None:
    if trace.stop_reason != "stop":
        return CUT
    if not auditing.closed(trace, chat):
        return filtering.NOT_CLOSED
    if not auditing.closed_once(trace, chat):
        return safe_block.CLOSED_TWICE
    return None if chat.split_thinking(chat.completion_text(trace.completion_ids))[1] else NO_ANSWER
