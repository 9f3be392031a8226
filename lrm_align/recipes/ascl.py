"""ASCL with IFPO: the rules are a tool, and the model learns when to consult them and how to go on.

Wang et al. 2026, arXiv 2602.13562; from its abstract: alignment as multi-turn tool use, the model itself decides when
to consult, and inverse frequency policy optimisation rebalances the advantages against a preference for consulting. No
code, prompt, rule, reward or number of it could be found, so that all else here is ours, and each file says so.

Stages: measure the model as it is, without the tool and with it; sample every prompt with the rules and without; keep
what is whole and safe, both branches balanced; SFT on it; RL on the model's own conversations, rewarded for safety,
helpfulness and form (no fee for a consultation), with the finished advantage weighted by the inverse frequency of
consulting in the group (`config.rl.advantage`); write the model out; measure it again, with the tool.
"""

from collections.abc import Mapping, Sequence

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.config import build, plain
from lrm_align.recipes import (
    branching,
    describe_ascl,
    finetune,
    measuring,
    prompting,
    rapo_task,
    reinforcing,
    rollouts,
    selection,
)
from lrm_align.recipes.ascl_grading import Form, Helpful, Safety
from lrm_align.recipes.consulting import CLASSES, CONSULT, DIRECT, Consulting
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.rewards import check_reward
from lrm_align.rl.task import Grader, Task
from lrm_align.sampling import Request, SamplingParams
from lrm_align.scoring.judge import Ask
from lrm_align.training import make_mesh

PARTS = ("safety", "helpful", "format")

MEASURED = ("before", "offered", "after_sft", "after")
READ_BY = {
    "prompts": ("sample",),
    "tool": ("offered", "sample"),
    "branches": ("sample",),
    "branches.balance": ("filter",),
    "branches.direct_share": ("filter",),
    **measuring.read_by(MEASURED, ("sample",)),
    "guard": ("filter", "reinforce", *MEASURED),
    **finetune.read_by("train", "export_sft"),
    "export": ("export_sft", "export"),
    **dict.fromkeys(("rl_prompts", "rl", "reward", "helpful", "without_answer", "judge"), ("reinforce",)),
    "defence": (),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    consulting = Consulting(student.chat, plain(config.tool))
    prompts = prompting.read(config.prompts, config.seed)
    explored = prompting.read(config.rl_prompts, config.seed)
    branching.check(config.branches, prompts.kept)
    context = min(config.sample.max_length, student.config.max_positions)
    asked = branching.requests(consulting, prompts.kept, config.branches, config.sample, context)
    selection.check(config.guard, student)
    guessed = finetune.check(student, config, 2 * len(prompts.kept) * config.sample.samples)
    planned = task(config, student, rapo_task.frozen(student, config.judge), explored.kept)
    reinforcing.check(student, planned, config)
    measuring.check(config.evaluate)

    def trained(inputs: Mapping[str, epath.Path], stage: str) -> Student:
        return Student({**config.model, "path": str(inputs[stage] / "model")}, mesh)

    def talk(speaker: Student) -> measuring.Talk:
        spoken = Consulting(speaker.chat, plain(config.tool))

        def requests(evaluated: Sequence[Prompt], settings: ConfigDict) -> list[Request]:
            room = min(settings.max_length, speaker.config.max_positions)
            return [spoken.request(prompt, _params(settings), room) for prompt in evaluated]

        return measuring.Talk(requests, spoken.answer)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def offered(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, {}, talk(student))

    def sample(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return rollouts.run(directory, student, asked, config.sample, config.seed, "  branches")

    def select(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return branching.run(directory, inputs["sample"], consulting, selection.guard(config.guard, mesh), config)

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.run(directory, inputs["filter"], student, config)

    def export_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.export(directory, inputs["filter"], inputs["train"], student, config)

    def after_sft(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        started = trained(inputs, "export_sft")
        return measuring.run(directory, started, config, {}, talk(started))

    def policy(inputs: Mapping[str, epath.Path]) -> tuple[Student, Task]:
        started = trained(inputs, "export_sft")
        return started, task(config, started, rapo_task.frozen(student, config.judge), explored.kept)

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return reinforcing.export(directory, inputs["reinforce"], *policy(inputs), config)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        aligned = trained(inputs, "export")
        return measuring.run(directory, aligned, config, {}, talk(aligned))

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    tool = consulting.identity
    stages = [
        scope.stage("before", before, model=model, args=args),
        scope.stage("offered", offered, model=model, args=args, tool=tool),
        scope.stage("sample", sample, model=model, tool=tool, prompts=prompting.identity(prompts.kept)),
        scope.stage("filter", select, ("sample",)),
        scope.stage("train", train, ("filter",)),
        scope.stage("export_sft", export_sft, ("filter", "train")),
        scope.stage("after_sft", after_sft, ("export_sft",), args=args),
        reinforcing.stage(scope, "reinforce", policy, ("export_sft",), prompts=prompting.identity(explored.kept)),
        scope.stage("export", export, ("export_sft", "reinforce")),
        scope.stage("after", after, ("export",), args=args),
    ]
    facts = describe_ascl.facts(prompts, explored, asked, guessed, consulting, student, config)
    return Recipe("ASCL + IFPO", stages, facts, describe_ascl.report)


def task(config: ConfigDict, student: Student, ask: Ask, prompts: Sequence[Prompt]) -> Task:
    """What the policy is asked in RL, and what its conversations are worth.

    Args:
      config: of the run.
      student: the policy's first model.
      ask: the frozen model as judge.
      prompts: `config.rl_prompts`.

    Raises:
      UserError: a reward, judge or prompt that does not work.
    """
    consulting = Consulting(student.chat, plain(config.tool))
    params, sampling = _params(config.rl.sampling), config.rl.sampling
    context = min(sampling.max_length, student.config.max_positions)

    def request(prompt: Prompt, id: str) -> Request:
        return consulting.request(prompt, params, context, id=id, samples=config.rl.samples)

    graders: dict[str, Grader] = {
        "safety": Safety(
            consulting,
            lambda: selection.guard(config.guard, student.mesh),
            config.guard.threshold,
            config.without_answer,
        ),
        "helpful": Helpful(consulting, build(config.helpful.factory, config.helpful.args, ask), config.without_answer),
        "format": Form(consulting),
    }
    reward = build(config.reward.factory, config.reward.args)
    check_reward(config.reward.factory, reward, {"safety": ("p_unsafe",), "helpful": (), "format": ()})
    return Task(prompts, request, graders, reward, PARTS, consulting.mode, (DIRECT, CONSULT), CLASSES)


def _params(settings: ConfigDict) -> SamplingParams:
    return SamplingParams(settings.temperature, settings.top_k, settings.top_p, settings.min_p, settings.max_new_tokens)
