"""What a run says of itself: before it starts (`--dry_run`), and at its end."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align import json_lines
from lrm_align.chat import Prompt
from lrm_align.recipes import prompting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Plan

EXAMPLES = 3

FEW = 50  # updates; ours


def facts(
    prompts: prompting.Prompts, asked: Sequence[tuple[Prompt, str]], guessed: Plan, student: Student, config: ConfigDict
) -> list[str]:
    """Counts, the steps to expect, and one prompt as it is sampled and as it is trained on, with its mask."""
    by_label = collections.Counter(prompt.label for prompt in prompts.kept)
    counts = ", ".join(f"{count} {label}" for label, count in by_label.items())
    removed = ", ".join(f"{count} in {name}" for name, count in prompts.removed.items()) or "none"
    lines = [
        *student.facts(),
        f"prompts: {counts}; removed by decontamination: {removed} (of {prompts.checked})",
        f"samples: {len(asked) * config.sample.samples}, temperature {config.sample.temperature}",
        f"training: at most {guessed.num_steps} steps of {guessed.rows} rows of {config.train.row_length} tokens, "
        f"mesh {dict(student.mesh.shape)}",
    ]
    small = "or take the settings for small sets, configs/align.py:small"
    lines += few_updates(guessed, config, f"raise config.sample.samples or config.train.epochs, {small}")
    prompt, said = next(((p, text) for p, text in asked if p.label == "harmful"), asked[0])
    chat = student.chat
    end = "" if chat.end_of_turn_id is None else chat.decode([chat.end_of_turn_id])
    thought = f"{chat.opening}…thought…\n{chat.thinking.close}\n\n" if chat.thinking.thinks else ""
    trained = f"{thought}…answer…{end}"
    lines += [
        f"sampled from ({prompt.id}, {prompt.label}): {chat.prompt_text(prompt.said(said))!r}",
        f"masked (not trained on): {chat.prompt_text(prompt.said())!r}",
        f"trained on: {trained!r}",
    ]
    if chat.habits.trims:
        lines.append(f"template: drops blanks at both ends of what {', '.join(sorted(chat.habits.trims))} say")
    return lines


def few_updates(plan: Plan, config: ConfigDict, advice: str) -> list[str]:
    """What is pointed out before a run of so few updates that it can hardly teach anything."""
    if plan.num_steps >= FEW:
        return []
    rate = config.train.optimizer.learning_rate
    count = f"{plan.num_steps} update{'s' if plan.num_steps != 1 else ''}"
    return [f"warning: {count} at a learning rate of {rate:g} may teach nothing; {FEW} or more may: {advice}"]


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished."""
    out: dict[str, Any] = {half: dict(summaries[half]) for half in ("before", "after") if half in summaries}
    if "before" in out and "steered_attack_success_rate" in out["before"]:
        out["steered_attack_success_rate"] = out["before"].pop("steered_attack_success_rate")
    if "filter" in summaries:
        out["traces"] = summaries["filter"]
    if "train" in summaries:
        out["training"] = {name: value for name, value in summaries["train"].items() if name != "losses"}
        out["losses"] = summaries["train"]["losses"]
    if {"before", "after"} <= set(summaries):
        out["examples"] = examples(directories["before"], directories["after"])
    return out


def examples(before: epath.Path, after: epath.Path) -> list[dict[str, str]]:
    """A few prompts of each set with both models' answers, for people to read."""
    shown = []
    for file in sorted(before.glob("*.answers.jsonl")):
        if not (after / file.name).exists():
            continue
        for old, new in list(zip(json_lines.read(file), json_lines.read(after / file.name), strict=True))[:EXAMPLES]:
            title = f"{file.name.partition('.')[0]}: {old['id']}"
            shown.append({"title": title, "prompt": old["prompt"], "before": old["text"], "after": new["text"]})
    return shown
