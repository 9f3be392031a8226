"""ThinkSafe: told that a prompt is harmful, the model writes its own safe reasoning, and learns it for the bare prompt.

Lee, Park et al. 2026, arXiv 2601.23143. Stages: measure the model as it is; sample every prompt, the harmful ones
steered; drop open thoughts and what the guard calls unsafe; train on what is left under the prompt *without* steering;
write the model out; measure it again.

Variants are settings: `+ KL` is `objective` below with kl > 0; sampling without steering is `sample.steering = "none"`
with `sample.samples = 5` and `filter.whole_groups`; the wordings are `steering.WORDINGS`; stripped thinking is
`filter.strip_thinking`; another model's traces are `sample.teacher`; refusals without reasoning are
`sample.written_refusal`.
"""

from collections.abc import Mapping

from etils import epath
from ml_collections import ConfigDict

from lrm_align import objectives
from lrm_align.chat import Prompt
from lrm_align.config import plain
from lrm_align.objectives import Objective
from lrm_align.recipes import describe, direct_refusal, finetune, measuring, prompting, rollouts, selection
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.steering import steered
from lrm_align.recipes.student import Student
from lrm_align.training import make_mesh

READ_BY = {
    "prompts": ("sample",),
    **measuring.read_by(("before", "after"), ("sample",)),
    "filter": ("filter",),
    "guard": ("filter", "before", "after"),
    **finetune.read_by(),
    "defence": (),
}


def objective(kl: float = 0.0) -> Objective:
    """SFT on every trace, or ThinkSafe + KL: SFT on refusals and forward KL to the untrained model on benign traces.

    Section 5.3 weighs the divergence with 1 and divides both parts by the batch's tokens; the prompt stays masked,
    unlike in the authors' code, which loses the mask on this path.
    """
    if not kl:
        return objectives.sft()
    refuse = objectives.where("harmful", objectives.sft(), "batch")
    keep = objectives.where("benign", objectives.kl_to_reference("forward"), "batch")
    return objectives.combine({"refuse": (1.0, refuse), "keep": (kl, keep)})


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    sampler = Student({**config.model, "path": config.sample.teacher}, mesh) if config.sample.teacher else student
    prompts = prompting.read(config.prompts, config.seed)
    spoken = [_asked(prompt, config.sample.steering) for prompt in prompts.kept if _is_sampled(prompt, config)]
    asked = rollouts.requests(sampler, spoken, config.sample)
    selection.check(config.guard, student)
    selection.rule(config.filter)
    samples = 1 if config.filter.whole_groups else config.sample.samples  # that can stay of a prompt
    guessed = finetune.check(student, config, len(prompts.kept) + len(spoken) * (samples - 1))
    measuring.check(config.evaluate)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def sample(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return rollouts.run(directory, sampler, asked, config.sample, config.seed, "  sampling")

    def select(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        refusal = config.sample.written_refusal
        written = {"written refusals": direct_refusal.traces(prompts.kept, student.chat, refusal)} if refusal else {}
        return selection.run(directory, inputs["sample"], sampler, student, config, written=written)

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.run(directory, inputs["filter"], student, config)

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return finetune.export(directory, inputs["filter"], inputs["train"], student, config)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        trained = Student({**config.model, "path": str(inputs["export"] / "model")}, mesh)
        return measuring.run(directory, trained, config, {})

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    stages = [
        scope.stage("before", before, model=model, args=args),
        scope.stage("sample", sample, model=sampler.identity, prompts=prompting.identity(prompts.kept)),
        scope.stage("filter", select, ("sample",), model=model),
        scope.stage("train", train, ("filter",)),
        scope.stage("export", export, ("filter", "train")),
        scope.stage("after", after, ("export",), args=args),
    ]
    facts = describe.facts(prompts, spoken, guessed, student, config)
    return Recipe("ThinkSafe", stages, facts, describe.report)


def _asked(prompt: Prompt, wording: str) -> tuple[Prompt, str]:
    """A prompt and the user turn that is sampled for it: only harmful ones are steered."""
    return prompt, steered(prompt.last, wording) if prompt.label == "harmful" else prompt.last


def _is_sampled(prompt: Prompt, config: ConfigDict) -> bool:
    return not (config.sample.written_refusal and prompt.label == "harmful")
