"""One comparison: several methods from the same model, with the same seed and the same evaluation.

A method is another config file with its preset; each runs in the directory of a stage of its own, so that a comparison
that was interrupted goes on, and a method that is finished is skipped. The model as it is is measured once. What all
share is set here: seed, evaluation prompts and their number, and how answers are drawn.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import load, plain, resolve
from lrm_align.errors import UserError
from lrm_align.recipes import costs, measuring
from lrm_align.recipes import stage as stages_
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Stage, Summary
from lrm_align.recipes.student import Student
from lrm_align.settings import check, check_factories
from lrm_align.training import make_mesh

BEFORE, AFTER = "before", "after"
SIZES, DRAWING = ("args", "table_args"), ("temperature", "top_p", "top_k")  # of config.evaluate, shared by all
READ_BY = {
    **measuring.read_by((BEFORE,)),
    "methods": (),  # each is a stage of its own, with the fingerprints of its own stages
    "compared": (),
}


class Method(NamedTuple):
    """A method of a comparison: its config, and its own recipe."""

    config: ConfigDict
    recipe: Recipe


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks every method, and lays out a stage for each.

    Raises:
      UserError: whatever a user can mend in any of them, before the first sample is drawn.
    """
    _check_compared(config)
    student = Student(config.model, make_mesh(plain(config.mesh)))
    measuring.check(config.evaluate)
    methods = {name: _method(name, config, workdir) for name in config.compared}

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        found = measuring.run(directory, student, config, {})
        return {**found, "tokens_per_answer": costs.tokens_per_answer(directory)}

    scope = Scope(config, READ_BY)
    stages = [scope.stage(BEFORE, before, model=student.identity, args=measuring.arguments(config))]
    stages += [Stage(name, _identity(method, workdir), _run(method)) for name, method in methods.items()]
    facts = [f"{name}: {fact}" for name, method in methods.items() for fact in method.recipe.facts]
    return Recipe("Comparison", stages, facts, report)


def report(summaries: Mapping[str, Summary], _: Mapping[str, epath.Path]) -> dict[str, Any]:
    """`before`, and `methods`: by name the same figures with `tokens_per_answer` and `seconds`."""
    methods = {name: summary for name, summary in summaries.items() if name != BEFORE}
    return {name: summaries[name] for name in (BEFORE,) if name in summaries} | {"methods": methods}


def _check_compared(config: ConfigDict) -> None:
    """What is compared must be there, once, and not be called as the untrained model is."""
    names = config.compared
    wrong = [name for name in names if name not in config.methods or name == BEFORE or names.count(name) > 1]
    if not names or wrong:
        raise UserError(
            f"config.compared is {tuple(names)}; it names methods of config.methods, each once: "
            f"{', '.join(config.methods)}"
        )


def _method(name: str, config: ConfigDict, workdir: epath.Path) -> Method:
    """A method's config with what all share, and its recipe."""
    settings = config.methods[name]
    own = load(settings.config).copy_and_resolve_references().unlock()
    changes = plain(settings.changes)
    _check_known(changes, own, f"config.methods.{name}.changes")
    own.update(changes)
    own.seed, own.seeds = config.seed, config.seeds
    for key in SIZES:  # a method may measure more than the others, never on other prompts
        own.evaluate[key] = {**plain(own.evaluate[key]), **plain(config.evaluate[key])}
    for key in DRAWING:
        own.evaluate[key] = config.evaluate[key]
    where = f"config.methods.{name}: config"
    check(own, where=where)
    check_factories(own, where)
    if plain(own.model) != plain(config.model):
        raise UserError(
            f"config.methods.{name}: {settings.config} has config.model {plain(own.model)}, the comparison "
            f"{plain(config.model)}; all methods start from one model"
        )
    made = resolve(own.recipe)(own, workdir / name)
    if AFTER not in {stage.name for stage in made.stages}:
        raise UserError(f"config.methods.{name}: {settings.config} has no stage {AFTER!r}; it measures nothing")
    return Method(own, made)


def _check_known(changes: Mapping[str, Any], config: ConfigDict, where: str) -> None:
    for key, value in changes.items():
        if key not in config:
            raise UserError(f"{where}: unknown key {key!r}; there are {', '.join(config)}")
        if isinstance(value, Mapping) and isinstance(config[key], ConfigDict):
            _check_known(value, config[key], f"{where}.{key}")


def _identity(method: Method, workdir: epath.Path) -> list[list[str]]:
    """What its stages depend on: settings, model and all."""
    wanted = stages_.chosen(method.recipe.stages, [AFTER])
    planned = stages_.plan(method.recipe.stages, workdir)
    return [[p.stage.name, p.fingerprint] for p in planned if p.stage.name in wanted]


def _run(method: Method) -> Callable[[epath.Path, Mapping[str, epath.Path]], Summary]:
    """Runs what its last measurement depends on; the model as it is is measured elsewhere."""

    def run(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        stages = method.recipe.stages
        summaries = stages_.run(stages, directory, [AFTER], lambda line: print(f"  {line}"))
        planned = stages_.plan(stages, directory)
        (after,) = [p.directory for p in planned if p.stage.name == AFTER]
        own = {"tokens_per_answer": costs.tokens_per_answer(after), "seconds": costs.spent(planned)}
        return {**summaries[AFTER], **own, "title": method.recipe.title}

    return run
