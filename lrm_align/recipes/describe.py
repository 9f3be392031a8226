"""What a run says of itself: before it starts (`--dry_run`), and at its end."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.recipes import prompting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Plan

EXAMPLES = 3


def facts(
    prompts: prompting.Prompts, asked: Sequence[tuple[Prompt, str]], guessed: Plan, student: Student, config: ConfigDict
) -> list[str]:
    """Counts, the steps to expect, and one prompt as it is sampled and as it is trained on, with its mask."""
    by_label = collections.Counter(prompt.label for prompt in prompts.kept)
    counts = ", ".join(f"{count} {label}" for label, count in by_label.items())
    removed = ", ".join(f"{count} in {name}" for name, count in prompts.removed.items()) or "none"
    shape = student.config
    lines = [
        f"model: {student.path} ({shape.family}, {shape.num_layers} layers of {shape.width})",
        f"prompts: {counts}; removed by decontamination: {removed} (of {prompts.checked})",
        f"samples: {len(asked) * config.sample.samples}, temperature {config.sample.temperature}",
        f"training: at most {guessed.num_steps} steps of {guessed.rows} rows of {config.train.row_length} tokens, "
        f"mesh {dict(student.mesh.shape)}",
    ]
    prompt, said = next(((p, text) for p, text in asked if p.label == "harmful"), asked[0])
    chat = student.chat
    opening = "" if chat.think_open_in_prompt else "<think>\n"
    end = "" if chat.end_of_turn_id is None else chat.decode([chat.end_of_turn_id])
    trained = f"{opening}…thought…\n</think>\n\n…answer…{end}"
    lines += [
        f"sampled from ({prompt.id}, {prompt.label}): {chat.prompt_text([{'role': 'user', 'content': said}])!r}",
        f"masked (not trained on): {chat.prompt_text([{'role': 'user', 'content': prompt.text}])!r}",
        f"trained on: {trained!r}",
    ]
    return lines


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
        for old, new in list(zip(_rows(file), _rows(after / file.name), strict=True))[:EXAMPLES]:
            title = f"{file.name.partition('.')[0]}: {old['id']}"
            shown.append({"title": title, "prompt": old["prompt"], "before": old["text"], "after": new["text"]})
    return shown


def _rows(file: epath.Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
