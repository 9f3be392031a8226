"""What a run of RAPO says of itself, before it starts and at its end."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.recipes import describe, prompting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.scoring.levels import Levels
from lrm_align.traces import Plan

PARTS = ("before", "after_sft", "after")


def facts(
    prompts: Mapping[str, prompting.Prompts],
    level_of: Mapping[str, int],
    levels: Levels,
    guessed: Plan,
    student: Student,
    config: ConfigDict,
) -> list[str]:
    """Counts, lengths by level, the steps to expect, and one prompt as it is trained on, with its mask."""
    rl, chat = config.rl, student.chat
    first = prompts["config.prompts"].kept
    numbers = range(1, levels.highest + 1)
    told, judged = (", ".join(f"{n}: {length(n)}" for n in numbers) for length in (levels.to_write, levels.to_judge))
    known = collections.Counter(level_of.values())
    by_level = ", ".join(f"{count} of level {level}" for level, count in sorted(known.items()))
    end = "" if chat.end_of_turn_id is None else chat.decode([chat.end_of_turn_id])
    text = config.analysis.opening.format(analysis="…analysis…")
    shown = next((prompt for prompt in first if prompt.label == "harmful"), first[0])
    return [
        *student.facts(),
        *(f"{name}: {_counted(found.kept)}; {_removed(found)}" for name, found in prompts.items()),
        f"levels ({config.levels.source}): {by_level or 'rated when the run has begun'}; told {told}; judged {judged}",
        f"training: at most {guessed.num_steps} steps of {guessed.rows} rows of {config.train.row_length} tokens, then "
        f"{rl.steps} steps of {rl.groups} groups of {rl.samples} samples, mesh {dict(student.mesh.shape)}",
        f"masked (not trained on): {chat.prompt_text(shown.said())!r}",
        f"trained on ({shown.id}): {f'{chat.opening}{text}…thought…{chat.thinking.close}…answer…{end}'!r}",
    ]


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished.

    `before`, `after_sft` (stage 1) and `after` (both stages) hold rates; `traces` counts stage 1's data;
    `reinforcement` has stage 2's curves; `disjoint` says that no training prompt is asked by the evaluation.
    """
    out: dict[str, Any] = {half: dict(summaries[half]) for half in PARTS if half in summaries}
    for stage, name in (("assemble", "traces"), ("disjoint", "disjoint")):
        if stage in summaries:
            out[name] = summaries[stage]
    for stage, name in (("train", "training"), ("reinforce", "reinforcement")):
        if stage in summaries:
            out[name] = {key: value for key, value in summaries[stage].items() if key != "losses"}
    if "train" in summaries:
        out["losses"] = summaries["train"]["losses"]
    if {"before", "after"} <= set(summaries):
        out["examples"] = describe.examples(directories["before"], directories["after"])
    return out


def _counted(prompts: Sequence[Prompt]) -> str:
    by_label = collections.Counter(prompt.label for prompt in prompts)
    return ", ".join(f"{count} {label}" for label, count in by_label.items())


def _removed(found: prompting.Prompts) -> str:
    removed = ", ".join(f"{count} in {name}" for name, count in found.removed.items()) or "none"
    return f"removed by decontamination: {removed} (of {found.checked})"
