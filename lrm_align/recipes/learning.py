"""The recipe of methods that are one RL stage: measure, learn, write the model out, measure again.

A method gives its `Task`. Where the config names a `weaken` factory, the model is damaged first (see `lab.weaken`): for
runs that must show that learning from rewards teaches something.
"""

from collections.abc import Callable, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import build, plain
from lrm_align.models import hf
from lrm_align.pages import card
from lrm_align.recipes import describe, measuring, prompting, reinforcing
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope, whole
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.rl.task import Task
from lrm_align.training import make_mesh

MakeTask = Callable[[Student, ConfigDict], Task]

READ_BY = {
    "weaken": ("weaken",),
    "prompts": ("reinforce",),
    **dict.fromkeys(("rl", "reward", "answer"), ("reinforce",)),
    "guard": ("reinforce", "before", "after"),
    **measuring.read_by(("before", "after")),
    "export": ("weaken", "export"),
    "defence": (),
}


def recipe(title: str, task: MakeTask, config: ConfigDict) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Args:
      title: for tables and pages.
      task: of a student.
      config: of the run.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    weakening = build(config.weaken.factory, config.weaken.args) if config.weaken.factory else None
    asked = task(student, config)
    reinforcing.check(student, asked, config)
    measuring.check(config.evaluate)

    def started(inputs: Mapping[str, epath.Path]) -> Student:
        return student if weakening is None else _in(config, inputs["weaken"], mesh)

    def weaken(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        assert weakening is not None
        hf.save(directory / "model", student.model, weakening(student.params), student.directory, config.export.dtype)
        card.write(directory, whole(config), student.directory)
        return {"model": "model"}

    def before(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, started(inputs), config, config.evaluate.before_args)

    def policy(inputs: Mapping[str, epath.Path]) -> tuple[Student, Task]:
        first = started(inputs)
        return first, task(first, config)

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return reinforcing.export(directory, inputs["reinforce"], *policy(inputs), config)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, _in(config, inputs["export"], mesh), config, {})

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    weak = () if weakening is None else ("weaken",)
    stages = [
        *([scope.stage("weaken", weaken, model=model)] if weak else []),
        scope.stage("before", before, weak, model=model, args=args),
        reinforcing.stage(scope, "reinforce", policy, weak, model=model, prompts=prompting.identity(asked.prompts)),
        scope.stage("export", export, ("reinforce", *weak)),
        scope.stage("after", after, ("export",), args=args),
    ]
    return Recipe(title, stages, _facts(student, asked, config), report)


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished."""
    trained = {"train": summaries["reinforce"]} if "reinforce" in summaries else {}
    return describe.report({**summaries, **trained}, directories)


def _in(config: ConfigDict, directory: epath.Path, mesh: Any) -> Student:
    return Student({**config.model, "path": str(directory / "model")}, mesh)


def _facts(student: Student, task: Task, config: ConfigDict) -> list[str]:
    rl = config.rl
    labels = [sum(prompt.label == label for prompt in task.prompts) for label in task.class_names]
    counts = ", ".join(f"{count} {label}" for count, label in zip(labels, task.class_names))
    updates = rl.inner_epochs * rl.minibatches
    epochs = rl.steps * rl.groups / len(task.prompts)
    first = task.request(task.prompts[0], task.prompts[0].id)
    return [
        *student.facts(),
        f"prompts: {counts}, each asked about {epochs:.1f} times",
        f"RL: {rl.steps} steps of {rl.groups} groups of {rl.samples} samples, temperature {rl.sampling.temperature}, "
        f"{updates} update{'s' if updates > 1 else ''} a step, {rl.mode}, mesh {dict(student.mesh.shape)}",
        f"graded by: {', '.join(task.graders)}",
        f"sampled from, and not trained on ({task.prompts[0].id}): {student.chat.decode(list(first.prompt_ids))!r}",
    ]
