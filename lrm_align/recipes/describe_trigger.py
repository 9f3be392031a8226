"""What a run of Safe Trigger says of itself, before it starts and at its end."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.recipes import describe, prompting, tags
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request
from lrm_align.scoring.safe_block import CLOSE, OPEN
from lrm_align.traces import Plan

PARTS = ("before", "after_sft", "after")


def facts(
    prompts: prompting.Prompts,
    asked: Sequence[Request],
    explored: Sequence[Request],
    repeated: int,
    guesses: tuple[Plan, Plan],
    student: Student,
    config: ConfigDict,
) -> list[str]:
    """Counts, the steps to expect, and one risky prompt as it is trained on, with its mask."""
    by_label = collections.Counter(prompt.label for prompt in prompts.kept)
    removed = ", ".join(f"{count} in {name}" for name, count in prompts.removed.items()) or "none"
    sft, dpo = guesses
    chat = student.chat
    end = "" if student.chat.end_of_turn_id is None else student.chat.decode([student.chat.end_of_turn_id])
    risky_text = f"{chat.opening}…thought…\n{chat.thinking.close}\n\n{OPEN}…{CLOSE}…answer…{end}"
    frozen = config.tags == tags.ADDED and config.lora.rank
    untrained = ", whose rows adapters leave as they begin: config.lora.rank=0 trains them" if frozen else ""
    general_text = f"{chat.opening}…thought…\n{chat.thinking.close}\n\n…answer…{end}"
    risky = next(prompt for prompt in prompts.kept if prompt.label == "harmful")
    return [
        *student.facts(),
        f"tags as {config.tags}{untrained}",
        f"prompts: {', '.join(f'{count} {label}' for label, count in by_label.items())}; removed by decontamination: "
        f"{removed} (of {prompts.checked})",
        f"adversarial prompts: {len(explored)}, without {repeated} that stage 1 trains on",
        f"samples: {len(asked)} in pass 1, at most {by_label['harmful']} in pass 2, "
        f"{sum(len(request.numbers) for request in explored)} to rank",
        f"training: at most {sft.num_steps} steps of {sft.rows} rows of {config.train.row_length} tokens, then at most "
        f"{dpo.num_steps} steps of {dpo.rows} rows of {config.preference.train.row_length}, "
        f"mesh {dict(student.mesh.shape)}",
        f"masked (not trained on): {student.chat.prompt_text(risky.said())!r}",
        f"trained on ({risky.id}, harmful): {risky_text!r}",
        f"trained on (benign): {general_text!r}",
    ]


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished.

    `before`, `after_sft` (stage 1) and `after` (both stages) hold rates; `risk_identification_rate` is that of the
    untrained model; `traces` counts stage 1's data, `preferences` stage 2's.
    """
    out: dict[str, Any] = {half: dict(summaries[half]) for half in PARTS if half in summaries}
    if "before" in out and "risk_identification_rate" in out["before"]:
        # Of the untrained model alone, with the attacks that succeeded as its denominator: no column of its own.
        out["risk_identification_rate"] = out["before"].pop("risk_identification_rate")
        counts = dict(out["before"]["counts"])
        out["risk_identification_count"] = counts.pop("risk_identification_rate")
        out["before"]["counts"] = counts
    if "assemble" in summaries:
        out["traces"] = summaries["assemble"]
    if "rank" in summaries:
        out["preferences"] = summaries["rank"]
    for stage, name in (("train", "training"), ("prefer", "preference_training")):
        if stage in summaries:
            out[name] = {key: value for key, value in summaries[stage].items() if key != "losses"}
    if "train" in summaries:
        out["losses"] = summaries["train"]["losses"]
    if "prefer" in summaries:
        out["preference_losses"] = summaries["prefer"]["losses"]
    if {"before", "after"} <= set(summaries):
        out["examples"] = describe.examples(directories["before"], directories["after"])
    return out
