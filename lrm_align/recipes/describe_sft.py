"""What `--dry_run` shows of examples that others wrote: as they are trained on, how long, what is cut and left out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from lrm_align.chat import Chat
from lrm_align.provenance import Source
from lrm_align.recipes import describe, finetune
from lrm_align.recipes.student import Student
from lrm_align.traces import Plan, Trace

if TYPE_CHECKING:
    from lrm_align.recipes.sft import Examples

SHOWN, LONGEST = 2, 600  # examples, and characters of each run of tokens
OPEN, CLOSE = "⟦", "⟧"  # around what is trained on
PERCENTILES = (5, 50, 95, 100)


def facts(found: "Examples", student: Student, config: ConfigDict) -> list[str]:
    """Counts with reasons, lengths, the steps to expect, and examples with their mask."""
    trained = finetune.sources(config)
    first = {**found.read.first, **found.train.first, **found.held_out.first}
    read, counts = found.read, found.plan.counts
    train, held = ({trace.prompt_id for trace in part.traces} for part in (found.train, found.held_out))
    lines = [
        *student.facts(),
        f"data: {config.data.path}, {read.shape}: {len(train)} examples to train on, {len(held)} held out",
        *(f"left out: {count} for {reason}, first {first[reason]}" for reason, count in found.dropped.items()),
        *(f"left out of prompts by the template: {what}, {n}" for what, n in found.train.left_out.items()),
        f"tokens of an example, by percentile: {_percentiles([trace.length for trace in found.train.traces])}; "
        f"trained on: {_percentiles([_trained(trace) for trace in found.train.traces])}",
        f"rows of {config.train.row_length} tokens: {counts['dropped_overlong']} longer ones are left out, "
        f"{counts['truncated']} are cut by {counts['cut_tokens']} tokens together",
        f"training: {found.plan.num_steps} steps of {found.plan.rows} rows, mesh {dict(student.mesh.shape)}",
        *few(found.plan, config),
    ]
    lines += [
        f"example {trace.prompt_id} ({OPEN}trained on{CLOSE}): {shown(trace, student.chat, trained)}"
        for trace in found.train.traces[:SHOWN]
    ]
    if student.chat.habits.trims:
        lines.append(f"template: drops blanks at both ends of what {', '.join(sorted(student.chat.habits.trims))} say")
    return lines


def few(plan: Plan, config: ConfigDict) -> list[str]:
    """The warning of few updates, with what helps here."""
    advice = "raise config.train.epochs or lower config.train.batch_traces, and see whether the loss on held-out"
    return describe.few_updates(plan, config, f"{advice} examples falls (config.data.validation)")


def shown(trace: Trace, chat: Chat, trained: Sequence[Source]) -> str:
    """The text of a trace on one line, what is trained on in brackets."""
    return "".join(
        f"{OPEN}{_short(chat.decode(ids))}{CLOSE}" if inside else _short(chat.decode(ids))
        for inside, ids in _runs(trace, trained)
    )


def _runs(trace: Trace, trained: Sequence[Source]) -> Iterator[tuple[bool, list[int]]]:
    inside = np.isin(trace.sources, [int(source) for source in trained])
    edges = np.flatnonzero(np.diff(inside)) + 1
    for ids, flags in zip(np.split(trace.ids, edges), np.split(inside, edges), strict=True):
        yield bool(flags[0]), ids.tolist()


def _short(text: str) -> str:
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return repr(text)[1:-1]


def _percentiles(sizes: Sequence[int]) -> str:
    values = np.percentile(sizes, PERCENTILES, method="inverted_cdf").astype(int)
    return ", ".join(f"{name}% {value}" for name, value in zip(PERCENTILES, values))


def _trained(trace: Trace) -> int:
    return int((trace.source != Source.PROMPT).sum())
