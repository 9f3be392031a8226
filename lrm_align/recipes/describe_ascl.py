"""What a run of ASCL says of itself, before it starts and at its end."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.recipes import describe, prompting
from lrm_align.recipes.consulting import CLASSES, Consulting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request
from lrm_align.traces import Plan

PARTS = ("before", "offered", "after_sft", "after")


def facts(
    prompts: prompting.Prompts,
    explored: prompting.Prompts,
    asked: Sequence[Request],
    guessed: Plan,
    consulting: Consulting,
    student: Student,
    config: ConfigDict,
) -> list[str]:
    """Counts, the steps to expect, one prompt with its offer, and what follows a call."""
    rl = config.rl

    def counts(found: prompting.Prompts) -> str:
        by_class = collections.Counter(consulting.class_of(prompt) for prompt in found.kept)
        removed = ", ".join(f"{count} in {name}" for name, count in found.removed.items()) or "none"
        shown = ", ".join(f"{by_class[name]} {name}" for name in CLASSES if by_class[name])
        return f"{shown}; removed by decontamination: {removed} (of {found.checked})"

    risky = next(prompt for prompt in prompts.kept if prompt.label == "harmful")
    return [
        *student.facts(),
        f"prompts: {counts(prompts)}",
        f"prompts of RL: {counts(explored)}; each asked about {rl.steps * rl.groups / len(explored.kept):.1f} times",
        f"samples: {sum(len(request.numbers) for request in asked)} in two branches, "
        f"{rl.steps * rl.groups * rl.samples} in RL",
        f"training: at most {guessed.num_steps} steps of {guessed.rows} rows of {config.train.row_length} tokens, then "
        f"{rl.steps} steps of RL, {rl.groups} groups of {rl.samples}; mesh {dict(student.mesh.shape)}",
        f"credit: {rl.advantage} {dict(rl.advantage_args)}; reward: {config.reward.factory} {config.reward.args}",
        f"masked (not trained on): {student.chat.decode(consulting.prompt_ids(risky.said()))!r}",
        f"after a call, masked: {student.chat.decode(consulting.form.result('…rules…', []))!r}",
    ]


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished.

    `before` is the model as it is, without the tool; `offered` the same with it, `after_sft` the bootstrapped one and
    `after` the end, all three with the tool. `rl` holds the curves of RL, consult rates by class of prompt among them.
    """
    out: dict[str, Any] = {half: dict(summaries[half]) for half in PARTS if half in summaries}
    if "filter" in summaries:
        out["traces"] = summaries["filter"]
    for stage, name, curves in (("train", "training", ("losses",)), ("reinforce", "rl", ())):
        if stage in summaries:
            out[name] = {key: value for key, value in summaries[stage].items() if key not in curves}
    if "train" in summaries:
        out["losses"] = summaries["train"]["losses"]
    if {"before", "after"} <= set(summaries):
        out["examples"] = describe.examples(directories["before"], directories["after"])
    return out
