"""Safe Trigger: for risky queries the model writes a `<safe>` block between its reasoning and its answer.

Miao et al. 2026, arXiv 2606.16808. Stage 1 (ST-S, section 3.1): sample every query; show the model its own reasoning on
the risky ones and let it audit that; train on thinking, block and guided answer, and on the general queries untouched,
so that the block appears where it is needed only. Stage 2 (ST-D, section 3.2): four high-temperature samples of each
further adversarial query, ranked by four indicators; the best against the worst by DPO, with the model of stage 1 as
the reference. All data comes from the model itself.

What the paper leaves open has a default that is ours: the audit prompt (`auditing.TEMPLATE`), which thinking is kept
(`config.audit.think_source`), the filter (`assembly`), who judges and how it is asked (`indicators`), the constants of
the reward (`rewards.safe_trigger`, `ranking.make`), and whether the tags are text or tokens (`config.tags`).
"""

from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt, normalise
from lrm_align.config import plain
from lrm_align.errors import UserError
from lrm_align.recipes import (
    assembly,
    auditing,
    describe_trigger,
    finetune,
    indicators,
    measuring,
    pairing,
    preference_tuning,
    prompting,
    ranking,
    rollouts,
    selection,
    tags,
)
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Trace, find_shards, pairs, read_shard
from lrm_align.training import make_mesh

MEASURED = ("before", "after_sft", "after")
READ_BY = {
    "prompts": ("sample",),
    "adversarial": ("explore",),
    **measuring.read_by(MEASURED, ("sample", "audit", "explore", "rank")),
    "audit": ("audit",),
    "audit.think_source": ("assemble",),
    "tags": ("tags", "assemble"),
    "guard": ("assemble", "rank", *MEASURED),
    **finetune.read_by("train", "export_sft"),
    "export": ("export_sft", "export"),
    "explore": ("explore",),
    "judge": ("rank",),
    "reward": ("rank",),
    "preference": ("prefer",),
    "defence": (),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    student.needs_thoughts("Safe Trigger")
    tags.check(config.tags)
    auditing.check(config.audit.template, config.audit.think_source)
    indicators.check(plain(config.judge))
    reward, delta = ranking.make(plain(config.reward))
    second = ConfigDict({**config, **config.preference})
    drawing = {name: sampling(config, config[name].sampling) for name in ("audit", "explore", "judge")}
    drawing["sample"] = config.sample
    _check_sampling(drawing)
    prompts = prompting.read(config.prompts, config.seed)
    auditing.check_labels(prompts.kept)
    adversarial, repeated = further(prompting.read(config.adversarial, config.seed).kept, prompts.kept)
    asked = rollouts.requests(student, [(prompt, prompt.last) for prompt in prompts.kept], drawing["sample"])
    explored = rollouts.requests(student, [(prompt, prompt.last) for prompt in adversarial], drawing["explore"])
    selection.check(config.guard, student)
    guesses = (
        finetune.check(student, config, len(prompts.kept)),
        preference_tuning.check(student, second, len(adversarial)),
    )
    measuring.check(config.evaluate)

    def trained(inputs: Mapping[str, epath.Path], stage: str) -> Student:
        return Student({**config.model, "path": str(inputs[stage] / "model")}, mesh)

    def starting(inputs: Mapping[str, epath.Path]) -> Student:
        return trained(inputs, "tags") if config.tags == tags.ADDED else student

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def sample(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return rollouts.run(directory, student, asked, drawing["sample"], config.seed, "  pass 1")

    def audit(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        settings = drawing["audit"]
        room = min(settings.max_length, student.config.max_positions)
        found, too_long = auditing.audits(_traces(inputs["sample"]), student.chat, config.audit.template, room)
        if not found:
            raise UserError(
                f"there is no reasoning to audit: no risky query has an ended thinking that fits into {room} tokens "
                f"(too long: {too_long}); raise config.sample.max_new_tokens or max_length"
            )
        requests = rollouts.requests(student, found, settings)
        done = rollouts.run(directory, student, requests, settings, config.seed, "  pass 2")
        return {**done, "too_long": too_long}

    def extend(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return tags.extend(directory, student)

    def assemble(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        guard = selection.guard(config.guard, mesh)
        think_source, new = config.audit.think_source, starting(inputs).chat
        return assembly.run(directory, inputs, student.chat, new, guard, config.guard.threshold, think_source)

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.run(directory, inputs["assemble"], starting(inputs), config)

    def export_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.export(directory, inputs["assemble"], inputs["train"], starting(inputs), config)

    def after_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, trained(inputs, "export_sft"), config, {})

    def explore(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        policy, settings = trained(inputs, "export_sft"), drawing["explore"]
        requests = rollouts.requests(policy, [(prompt, prompt.last) for prompt in adversarial], settings)
        return rollouts.run(directory, policy, requests, settings, config.seed, "  exploring")

    def rank(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        traces = {trace.key: trace for trace in _traces(inputs["explore"])}
        chat = trained(inputs, "export_sft").chat
        guard = selection.guard(config.guard, mesh) if config.judge.f_safe_by == indicators.GUARD else None
        scores = indicators.score(
            directory, list(traces.values()), chat, student, guard, config, drawing["judge"], reward
        )
        chosen, dropped = ranking.choose(scores, delta)
        counts: dict[str, Any] = {"classes": ranking.classes(list(scores.values())), "dropped": dropped}
        if not chosen:
            raise UserError(
                f"no query of {len(adversarial)} gave a pair with a spread of {delta:g} (config.reward.delta): "
                f"{dropped}; samples by class: {counts['classes']}"
            )
        made = [pairs.make(_scored(traces[a], scores[a]), _scored(traces[b], scores[b]), a[0]) for a, b in chosen]
        identity = ranking.identity(chosen, scores)
        return {**counts, **pairing.write(directory, made, identity)}

    def prefer(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return preference_tuning.run(directory, inputs["rank"], trained(inputs, "export_sft"), second)

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        policy = trained(inputs, "export_sft")
        return preference_tuning.export(directory, inputs["rank"], inputs["prefer"], policy, second)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, trained(inputs, "export"), config, {})

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    start = ("tags",) if config.tags == tags.ADDED else ()
    stages = [
        scope.stage("before", before, model=model, args=args),
        scope.stage("sample", sample, model=model, prompts=prompting.identity(prompts.kept)),
        scope.stage("audit", audit, ("sample",)),
        *([scope.stage("tags", extend, model=model)] if start else []),
        scope.stage("assemble", assemble, ("sample", "audit", *start)),
        scope.stage("train", train, ("assemble", *start)),
        scope.stage("export_sft", export_sft, ("assemble", "train", *start)),
        scope.stage("after_sft", after_sft, ("export_sft",), args=args),
        scope.stage("explore", explore, ("export_sft",), prompts=prompting.identity(adversarial)),
        scope.stage("rank", rank, ("export_sft", "explore"), model=model),
        scope.stage("prefer", prefer, ("export_sft", "rank")),
        scope.stage("export", export, ("export_sft", "rank", "prefer")),
        scope.stage("after", after, ("export",), args=args),
    ]
    facts = describe_trigger.facts(prompts, asked, explored, repeated, guesses, student, config)
    return Recipe("Safe Trigger", stages, facts, describe_trigger.report)


def sampling(config: ConfigDict, more: Mapping[str, Any]) -> ConfigDict:
    """`config.sample`, with what a pass does differently."""
    return ConfigDict({**config.sample, **more})


def further(adversarial: list[Prompt], trained: list[Prompt]) -> tuple[list[Prompt], int]:
    """The adversarial queries that stage 1 does not train on, and how many it does (section 3.2: disjoint).

    Raises:
      UserError: a general query among them, or none is left.
    """
    general = [prompt.id for prompt in adversarial if prompt.label != auditing.HARMFUL]
    if general:
        raise UserError(
            f"config.adversarial: {len(general)} of {len(adversarial)} prompts are not labelled {auditing.HARMFUL!r}, "
            f"the first is {general[0]!r}; stage 2 ranks answers to adversarial queries alone"
        )
    known = {normalise(text) for prompt in trained for text in prompt.turns}
    left = [prompt for prompt in adversarial if not known & {normalise(text) for text in prompt.turns}]
    if not left:
        raise UserError(f"config.adversarial: all of {len(adversarial)} prompts are in config.prompts as well")
    return left, len(adversarial) - len(left)


def _check_sampling(drawing: Mapping[str, ConfigDict]) -> None:
    """One sample in each pass but the exploration, which needs several that differ."""
    for name in ("sample", "audit", "judge"):
        if drawing[name].samples != 1:
            raise UserError(f"config.{name}: samples is {drawing[name].samples}; this pass draws 1 sample a prompt")
    explore = drawing["explore"]
    if explore.samples < 2 or explore.temperature <= 0:
        raise UserError(
            f"config.explore.sampling: {explore.samples} samples at temperature {explore.temperature:g}; pairs need at "
            "least 2 that differ, so a temperature above 0"
        )


def _traces(directory: epath.Path) -> list[Trace]:
    return [trace for shard in find_shards(directory) for trace in read_shard(shard)]


def _scored(trace: Trace, score: Any) -> Trace:
    return trace.replace(scores={**trace.scores, "safe_trigger": score.to_dict()})
