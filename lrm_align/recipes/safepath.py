"""SafePath, a baseline: harmful prompts are answered with a short fixed primer at the head of the thought, and no more.

Jeung et al. 2025, arXiv 2505.14667: on harmful prompts the model learns to begin its thought with a few fixed words;
nothing after them is supervised, and the thought stays open, so that the model reasons on by itself. Benign reasoning
is mixed in. Here, as for the other methods, the model's own: benign prompts are sampled, and the guard filters them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Chat, Prompt
from lrm_align.config import plain
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.recipes import describe, finetune, measuring, prompting, rollouts, selection
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Trace
from lrm_align.training import make_mesh

READ_BY = {
    "prompts": ("sample",),
    **measuring.read_by(("before", "after"), ("sample",)),
    "filter": ("filter",),
    "primer": ("filter",),
    "guard": ("filter", "before", "after"),
    **finetune.read_by(),
    "defence": (),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    student.needs_thoughts("SafePath")
    prompts = prompting.read(config.prompts, config.seed)
    harmful = [prompt for prompt in prompts.kept if prompt.label == "harmful"]
    benign = [prompt for prompt in prompts.kept if prompt.label == "benign"]
    primed = traces(harmful, student.chat, config.primer)
    asked = rollouts.requests(student, [(prompt, prompt.last) for prompt in benign], config.sample)
    selection.check(config.guard, student)
    selection.rule(config.filter)
    guessed = finetune.check(student, config, len(prompts.kept))
    measuring.check(config.evaluate)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def sample(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return rollouts.run(directory, student, asked, config.sample, config.seed, "  sampling")

    def select(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return selection.run(directory, inputs["sample"], student, student, config, written={"primed": primed})

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
        scope.stage("sample", sample, model=model, prompts=prompting.identity(prompts.kept)),
        scope.stage("filter", select, ("sample",)),
        scope.stage("train", train, ("filter",)),
        scope.stage("export", export, ("filter", "train")),
        scope.stage("after", after, ("export",), args=args),
    ]
    facts = describe.facts(prompts, [(prompt, prompt.last) for prompt in benign], guessed, student, config)
    shown = student.chat.decode(opening(student.chat, config.primer))
    facts.append(f"trained on for harmful prompts, and nothing after it: {shown!r}")
    return Recipe("SafePath", stages, facts, describe.report)


def traces(prompts: Sequence[Prompt], chat: Chat, primer: str) -> list[Trace]:
    """One trace a harmful prompt: the opening of the thought and the primer, without an end.

    The tokens are INJECTED, since no model sampled them: train on that source, too.

    Raises:
      UserError: no words, or no harmful prompts.
    """
    if not primer.strip():
        raise UserError(f"config.primer is {primer!r}; it must be the words that a safe thought begins with")
    if not prompts:
        raise UserError("config.prompts: SafePath needs harmful prompts, found none")
    ids = opening(chat, primer)
    return [
        Trace(
            prompt_ids=np.asarray(asked),
            completion_ids=np.asarray(ids),
            source=np.full(len(ids), Source.INJECTED, np.uint8),
            prompt_id=prompt.id,
            stop_reason="length",
            tags=(prompt.label,),
            meta={**prompt.record(), "kind": prompt.kind},
        )
        for prompt, asked in zip(prompts, chat.prompts_ids([prompt.said() for prompt in prompts]), strict=True)
    ]


def opening(chat: Chat, primer: str) -> list[int]:
    """The ids that a thought begins with: its mark, where the prompt does not hold it, and the primer."""
    return chat.encode_trusted(chat.opening) + chat.encode_plain(primer)
