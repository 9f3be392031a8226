"""From sampled traces to training traces: verdicts for every trace, then which are kept, with every drop counted."""

import collections
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from etils import epath

from lrm_align import atomic_files, json_lines, processes
from lrm_align.chat import THINK_CLOSE, Chat
from lrm_align.chat.prompts import HARMFUL
from lrm_align.errors import UserError
from lrm_align.progress import Progress
from lrm_align.scoring import Guard
from lrm_align.traces import Shard, ShardWriter, Trace, read_shard

KEEP = "keep"
NOT_CLOSED = "thinking not closed"
NOT_ENDED = "turn not ended"
UNSAFE = "unsafe"
UNDECIDED = "guard undecided"
COMPLIED, REFUSED = "does not refuse a harmful prompt", "refuses a benign prompt"
NOT_ALL_SAFE = "not every sample of the prompt is safe"
NOT_CHOSEN = "another sample of the prompt was chosen"
OUTCOMES = "outcomes.json"
LEAST_KEPT = 0.1  # ours: the share of harmful prompts' traces below which a run is told so

Key = tuple[str, int]
Rule = Callable[[Sequence[Trace], Chat, Guard, float], "list[Verdict]"]  # as `judge`


class Verdict(NamedTuple):
    """What the filter says of a trace.

    Attributes:
      outcome: `KEEP` or the reason of the drop.
      p_unsafe: the guard's number; None where it was not asked or could not decide.
      detail: the guard's reason where it could not decide.
    """

    outcome: str
    p_unsafe: float | None = None
    detail: str | None = None


def judge(traces: Sequence[Trace], chat: Chat, guard: Guard, threshold: float = 0.5) -> list[Verdict]:
    """ThinkSafe's two rules in their order (arXiv 2601.23143; the first stands in the authors' code only).

    1. The thinking must be closed: a response that ran into its limit is dropped. Of a model without thoughts, the
       turn must have ended.
    2. The guard, shown the original prompt and the full response with its thinking, must call the pair safe:
       p(unsafe) < threshold. Where it cannot decide, the trace is dropped and counted, never called safe.

    Args:
      traces: sampled traces; `meta["prompt"]` is the original prompt, without steering.
      chat: of the model that sampled.
      guard: the guard.
      threshold: of p(unsafe).
    """
    texts = [chat.completion_text(trace.completion_ids) for trace in traces]
    verdicts = [open_end(trace, text, chat) for trace, text in zip(traces, texts)]
    asked = [number for number, verdict in enumerate(verdicts) if verdict is None]
    prompts = [traces[number].meta["prompt"] for number in asked]
    for number, score in zip(asked, guard.score(prompts, [chat.full_response(texts[number]) for number in asked])):
        if score.value is None:
            verdicts[number] = Verdict(UNDECIDED, None, score.reason)
        else:
            verdicts[number] = Verdict(KEEP if score.value < threshold else UNSAFE, score.value)
    return [verdict for verdict in verdicts if verdict is not None]


def open_end(trace: Trace, text: str, chat: Chat) -> Verdict | None:
    """The verdict on a response that did not come to its end; None on any other."""
    if not chat.thinking.thinks:
        return Verdict(NOT_ENDED) if trace.stop_reason == "length" else None
    if chat.is_closed(text):
        return None
    # Marks given by hand may be nobody's: the reason says which they are.
    return Verdict(NOT_CLOSED if chat.thinking.close == THINK_CLOSE else f"{NOT_CLOSED} by {chat.thinking.close}")


def closed_and_safe() -> Rule:
    """The rule of a config's `filter.factory` that is ThinkSafe's: `judge`."""
    return judge


def by_label() -> Rule:
    """The rule that goes with refusal keywords: of a harmful prompt refusals stay, of any other the answers.

    The guard's number is how surely a response complies; on benign prompts that is no harm.
    """

    def rule(traces: Sequence[Trace], chat: Chat, guard: Guard, threshold: float) -> list[Verdict]:
        verdicts = judge(traces, chat, guard, threshold)
        return [_wanted(verdict, trace.tags[0] == "harmful") for trace, verdict in zip(traces, verdicts, strict=True)]

    return rule


def _wanted(verdict: Verdict, harmful: bool) -> Verdict:
    if verdict.outcome not in (KEEP, UNSAFE):
        return verdict
    complies = verdict.outcome == UNSAFE
    if complies == harmful:
        return verdict._replace(outcome=COMPLIED if harmful else REFUSED)
    return verdict._replace(outcome=KEEP)


def check_verdicts(name: str, verdicts: object, count: int) -> None:
    """Refuses what a rule gave, unless it is one verdict for each trace.

    Raises:
      UserError: it names the rule's factory and what it gave.
    """
    wanted = f"a list of one filtering.Verdict for each of {count} traces"
    if not isinstance(verdicts, list) or len(verdicts) != count:
        found = f"a list of {len(verdicts)}" if isinstance(verdicts, list) else f"a {type(verdicts).__name__}"
        raise UserError(f"{name}: its rule gave {found}; wanted {wanted}")
    for verdict in verdicts:
        if not isinstance(verdict, Verdict):
            raise UserError(f"{name}: its rule gave a {type(verdict).__name__}, {verdict!r}; wanted {wanted}")


def judge_shards(
    shards: Sequence[Shard],
    directory: epath.Path,
    judge_traces: Callable[[Sequence[Trace]], list[Verdict]],
) -> dict[Key, Verdict]:
    """Verdicts of all traces, written shard by shard, so that a run that is killed goes on where it was."""
    files = [directory / f"{shard.manifest.name}.verdicts.jsonl" for shard in shards]
    kept = [_read(file, shard) for file, shard in zip(files, shards)]
    processes.agree("finished verdicts", [found is not None for found in kept])
    done = sum(len(found) for found in kept if found is not None)
    verdicts: dict[Key, Verdict] = {}
    with Progress("  judging", sum(shard.manifest.count for shard in shards), done) as progress:
        for shard, file, found in zip(shards, files, kept):
            if found is None:
                traces = list(read_shard(shard))
                judged = [Verdict(*verdict) for verdict in processes.first("verdicts", judge_traces(traces))]
                found = {trace.key: verdict for trace, verdict in zip(traces, judged, strict=True)}
                json_lines.write(file, [[*key, *verdict] for key, verdict in found.items()])
                progress.add(len(traces))
            verdicts |= found
    return verdicts


def whole_groups(verdicts: Mapping[Key, Verdict], seed: int) -> dict[Key, Verdict]:
    """SafeChain's protocol for sampling without steering: all samples of a prompt must be safe, and one of them stays.

    ThinkSafe, section 5.4, uses it with five samples as the ablation of steering. Which one stays is drawn from the
    seed and the prompt's id.
    """
    groups: dict[str, list[Key]] = collections.defaultdict(list)
    for key in verdicts:
        groups[key[0]].append(key)
    chosen = dict(verdicts)
    for prompt_id, keys in groups.items():
        keys.sort()
        stays = keys[_draw(f"{seed}/{prompt_id}", len(keys))]
        safe = all(verdicts[key].outcome == KEEP for key in keys)
        for key in keys:
            if verdicts[key].outcome != KEEP or (key == stays and safe):
                continue
            chosen[key] = verdicts[key]._replace(outcome=NOT_CHOSEN if safe else NOT_ALL_SAFE)
    return chosen


def counted(verdicts: Mapping[Key, Verdict], label_of: Mapping[Key, str]) -> dict[str, dict[str, int]]:
    """`{"kept": {label: n}, "dropped": {"label: reason": n}}`."""
    kept: collections.Counter[str] = collections.Counter()
    dropped: collections.Counter[str] = collections.Counter()
    for key, verdict in sorted(verdicts.items()):
        label = label_of[key]
        if verdict.outcome == KEEP:
            kept[label] += 1
        else:
            dropped[f"{label}: {verdict.outcome}"] += 1
    return {"kept": dict(kept), "dropped": dict(dropped)}


def few_harmful(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is pointed out where hardly any trace of a harmful prompt stays: the rest teaches no refusals.

    >>> few_harmful({"kept": {"benign": 76, "harmful": 5}, "dropped": {"harmful: turn not ended": 65}})
    ['5 of 70 traces of harmful prompts were kept (turn not ended 65); what is trained on teaches few refusals']
    """
    kept = counts["kept"].get(HARMFUL, 0)
    dropped = {name.partition(": ")[2]: n for name, n in counts["dropped"].items() if name.startswith(f"{HARMFUL}: ")}
    total = kept + sum(dropped.values())
    if kept >= LEAST_KEPT * total:
        return []
    why = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
    told = f"{kept} of {total} traces of harmful prompts were kept ({why})"
    return [f"{told}; what is trained on teaches few refusals"]


def write_kept(
    shards: Sequence[Shard],
    verdicts: Mapping[Key, Verdict],
    directory: epath.Path,
    rewrite: Callable[[Trace], Trace],
    recipe_hash: str,
) -> int:
    """Writes the kept traces, each rewritten for training, as shards; resumable. Returns their number.

    How many traces have which outcome stands beside them in `outcomes.json`, whatever becomes of the run.

    Raises:
      UserError: nothing was kept.
    """
    outcomes = collections.Counter(verdict.outcome for verdict in verdicts.values())
    if processes.primary():
        atomic_files.write_text(directory.parent / OUTCOMES, json.dumps(dict(outcomes.most_common()), indent=1) + "\n")
    if not outcomes[KEEP]:
        why = ", ".join(f"{reason} {count}" for reason, count in outcomes.most_common())
        raise UserError(f"the filter kept none of {len(verdicts)} traces ({why}); verdicts lie in {directory.parent}")
    with ShardWriter(directory, recipe_hash, flush_every=1024, prefix="sft") as writer:
        for trace in _kept(shards, verdicts):
            if trace.key not in writer.done:
                writer.add(rewrite(trace))
        return len(writer.done)


def labels(shards: Iterable[Shard]) -> dict[Key, str]:
    """The label, a trace's first tag, of every trace."""
    return {trace.key: trace.tags[0] for shard in shards for trace in read_shard(shard)}


def _kept(shards: Sequence[Shard], verdicts: Mapping[Key, Verdict]) -> Iterator[Trace]:
    """Kept traces by key: how they lie in shards depends on when a sampler was killed, the training data must not."""
    readers = [read_shard(shard) for shard in shards]
    places = [
        (key, place, index) for place, shard in enumerate(shards) for index, key in enumerate(shard.manifest.keys)
    ]
    for key, place, index in sorted(places):
        if verdicts[key].outcome == KEEP:
            yield readers[place][index]


def _read(file: epath.Path, shard: Shard) -> dict[Key, Verdict] | None:
    """The verdicts of a shard, or None where they are missing or a kill cut them short."""
    if not file.exists():
        return None
    try:
        found = {(row[0], row[1]): Verdict(*row[2:]) for row in json_lines.read(file)}
    except (UserError, TypeError, IndexError, KeyError):
        return None
    return found if set(found) == set(shard.manifest.keys) else None


def _draw(text: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count
