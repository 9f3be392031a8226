"""RAPO: safe reasoning that grows with the risk, learned first from the model's own analyses, then by RL.

arXiv 2602.04224. Stage 1: for every prompt the model writes a safety analysis as long as the prompt is complex, and
goes on from it; it is trained on both for the bare prompt. Stage 2: GRPO with A = R + G; the untrained model judges
whether the first paragraph of the thought is safety analysis of the length that the prompt needs (R), and whether the
answer is safe or helpful (G).

What the paper leaves open, or the authors' code does otherwise, has a default that is ours: all wording; one table of
lengths for who writes and who judges (`config.levels.table.written` brings the authors' disagreement back); verdicts
that say nothing clear are unscored; truncated samples are no empty answers (`config.judge.truncated`); training prompts
are disjoint from the evaluation's, proved by hash.
"""

import collections
import json
from collections.abc import Mapping

from etils import epath
from ml_collections import ConfigDict

from lrm_align import atomic_files
from lrm_align.config import build, digest, plain
from lrm_align.errors import UserError
from lrm_align.recipes import (
    describe_rapo,
    disjoint,
    finetune,
    measuring,
    prompting,
    rapo_assembly,
    rapo_levels,
    rapo_passes,
    rapo_task,
    reinforcing,
    rollouts,
    selection,
)
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.rl.task import Task
from lrm_align.traces import find_shards, read_shard
from lrm_align.training import make_mesh

LEVELS = "levels.json"
MEASURED = ("before", "after_sft", "after")
READ_BY = {
    "prompts": ("rate", "analyse"),
    "levels": ("rate", "analyse", "reinforce"),
    "analysis": ("analyse",),
    "continuation": ("go_on",),
    **measuring.read_by(MEASURED, ("analyse", "go_on")),
    "filter": ("assemble",),
    "guard": ("assemble", *MEASURED),
    **finetune.read_by("train", "export_sft"),
    "export": ("export_sft", "export"),
    "rl_prompts": ("reinforce",),
    "rl": ("reinforce",),
    "reward": ("reinforce",),
    "judge": ("rate", "reinforce"),
    "defence": (),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    student.needs_thoughts("RAPO")
    levels, where, analysis = (
        build("lrm_align.scoring.levels:table", config.levels.table),
        plain(config.levels),
        plain(config.analysis),
    )
    rapo_levels.check(where)
    rapo_passes.check(analysis, levels)
    passes = {name: ConfigDict({**config.sample, **config[name].sampling}) for name in ("analysis", "continuation")}
    _check_passes(passes)
    prompts = {name: prompting.read(config[name], config.seed) for name in ("prompts", "rl_prompts")}
    first, second = prompts["prompts"].kept, prompts["rl_prompts"].kept
    rapo_task.check_labels(second)
    judged = where["source"] == rapo_levels.JUDGED
    known = {} if judged else rapo_levels.by_column(first, where)
    ask = rapo_task.frozen(student, config.judge)
    # Prompts that are rated later are looked at as if they were of level 1: whether they fit is known now.
    trial = dict.fromkeys((prompt.id for prompt in first), 1) | known
    asked = rapo_passes.analyses(student, first, trial, levels, analysis, passes["analysis"])
    if not asked:
        raise UserError(
            f"config.prompts: none of {len(first)} prompts is of a level above 0; there is nothing to analyse"
        )
    selection.check(config.guard, student)
    guessed = finetune.check(student, config, len(first))
    reinforcing.check(student, rapo_task.task(second, student, levels, config, ask), config)
    measuring.check(config.evaluate)

    def trained(inputs: Mapping[str, epath.Path], stage: str) -> Student:
        return Student({**config.model, "path": str(inputs[stage] / "model")}, mesh)

    def started(inputs: Mapping[str, epath.Path]) -> tuple[Student, Task]:
        policy = trained(inputs, "export_sft")
        return policy, rapo_task.task(second, policy, levels, config, ask)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def separated(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        removed = {f"config.{name}": found.removed for name, found in prompts.items()}
        return disjoint.check(
            disjoint.asked(inputs["before"]), {f"config.{name}": found.kept for name, found in prompts.items()}, removed
        )

    def rate(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        found, unknown = rapo_levels.rated(first, where, levels, ask)
        atomic_files.write_text(directory / LEVELS, json.dumps(found))
        return {"rated": len(found), "unknown": unknown}

    def level_of(inputs: Mapping[str, epath.Path]) -> dict[str, int]:
        return json.loads((inputs["rate"] / LEVELS).read_text()) if judged else known

    def analyse(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        settings = passes["analysis"]
        requests = rapo_passes.analyses(student, first, level_of(inputs), levels, analysis, settings)
        return rollouts.run(directory, student, requests, settings, config.seed, "  analyses")

    def continued(inputs: Mapping[str, epath.Path]):
        traces = [trace for shard in find_shards(inputs["analyse"]) for trace in read_shard(shard)]
        found = rapo_passes.read(traces, student.chat, levels, analysis)
        settings = passes["continuation"]
        return rapo_passes.continuations(student, first, level_of(inputs), found, analysis["opening"], settings)

    def go_on(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        requests, dropped = continued(inputs)
        if not requests:
            raise UserError(f"every analysis was dropped: {dict(collections.Counter(dropped.values()))}")
        return rollouts.run(directory, student, requests, passes["continuation"], config.seed, "  answers")

    def assemble(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        guard = selection.guard(config.guard, mesh) if config.filter.guarded else None
        dropped = continued(inputs)[1]
        return rapo_assembly.run(
            directory, inputs["go_on"], student.chat, guard, config.guard.threshold, first, dropped
        )

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.run(directory, inputs["assemble"], student, config)

    def export_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.export(directory, inputs["assemble"], inputs["train"], student, config)

    def after_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, trained(inputs, "export_sft"), config, {})

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return reinforcing.export(directory, inputs["reinforce"], *started(inputs), config)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, trained(inputs, "export"), config, {})

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    read = {name: prompting.identity(found.kept) for name, found in prompts.items()}
    texts = digest([[disjoint.fingerprint(prompt.text) for prompt in found.kept] for found in prompts.values()])
    rated = ("rate",) if judged else ()
    stages = [
        scope.stage("before", before, model=model, args=args),
        scope.stage("disjoint", separated, ("before",), texts=texts),
        *([scope.stage("rate", rate, model=model, prompts=read["prompts"])] if judged else []),
        scope.stage("analyse", analyse, rated, model=model, prompts=read["prompts"]),
        scope.stage("go_on", go_on, ("analyse", *rated)),
        scope.stage("assemble", assemble, ("analyse", "go_on", *rated)),
        scope.stage("train", train, ("assemble",), model=model),
        scope.stage("export_sft", export_sft, ("assemble", "train")),
        scope.stage("after_sft", after_sft, ("export_sft",), args=args),
        reinforcing.stage(scope, "reinforce", started, ("export_sft",), model=model, prompts=read["rl_prompts"]),
        scope.stage("export", export, ("export_sft", "reinforce")),
        scope.stage("after", after, ("export",), args=args),
    ]
    named = {f"config.{name}": found for name, found in prompts.items()}
    facts = describe_rapo.facts(named, known, levels, guessed, student, config)
    return Recipe("RAPO", stages, facts, describe_rapo.report)


def _check_passes(passes: Mapping[str, ConfigDict]) -> None:
    """One sample in each pass."""
    for name, sampling in passes.items():
        if sampling.samples != 1:
            raise UserError(f"config.{name}: samples is {sampling.samples}; this pass draws 1 sample a prompt")
