"""DPO: training on pairs of answers of which one is preferred, with any loss of `objectives.preference`.

Rafailov et al. 2023, arXiv 2305.18290. Stages: measure the model as it is, where the config names an evaluation; turn
the pairs into traces; compute the reference's log-probabilities once, where the config says so; train; write the model
out; measure it again. The reference is the model before training: the same weights without adapters, or a frozen copy.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import build, plain
from lrm_align.errors import UserError, attributed
from lrm_align.provenance import Source
from lrm_align.recipes import describe, finetune, measuring, pairing, preference_tuning, selection
from lrm_align.recipes.pairing import Pairs
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Stage, Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Plan, Trace
from lrm_align.training import make_mesh

LIVE, STORED = "live", "stored"
READ_BY = {
    "pairs": ("pairs",),
    "reference": ("reference", "train"),
    **measuring.read_by(("before", "after")),
    "guard": ("before", "after"),
    **finetune.read_by(),
    "train": ("train",),
    **dict.fromkeys(("train.row_length", "train.chunk", "train.micro_batches"), ("reference", "train")),
    "defence": (),
}
SHOWN = 600  # characters of each part of the rendered pair


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before anything slow starts.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    if config.reference.logp not in (LIVE, STORED):
        raise UserError(f"config.reference.logp is {config.reference.logp!r}; supported are {LIVE}, {STORED}")
    precomputed = config.reference.logp == STORED
    if precomputed and config.reference.path:
        preference_tuning.check_stored(config.reference.path, student, config)
    found = pairs(config, student)
    guessed = preference_tuning.check(student, config, found.size, precomputed)
    evaluated = bool(config.evaluate.factory)
    if evaluated:
        measuring.check(config.evaluate)
        selection.check(config.guard, student)

    def write(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        written = pairing.write(directory, found.traces(), found.identity)
        skipped = {**written["skipped"]}
        for reason, count in found.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
        summary = {"pairs": written["pairs"], "skipped": skipped}
        return {**summary, "left_out": dict(found.left_out)} if found.left_out else summary

    def reference(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return preference_tuning.reference(_kept(config, directory), inputs["pairs"], student, config)

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return preference_tuning.run(directory, inputs["pairs"], student, config, _stored(config, inputs))

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        kept = _stored(config, inputs)
        return preference_tuning.export(directory, inputs["pairs"], inputs["train"], student, config, kept)

    scope, model = Scope(config, READ_BY), student.identity
    data = ("pairs", "reference") if precomputed else ("pairs",)
    stages = [scope.stage("pairs", write, pairs=found.identity, model=model)]
    if precomputed:
        stages.append(scope.stage("reference", reference, ("pairs",), model=model))
    stages += [
        scope.stage("train", train, data, model=model),
        scope.stage("export", export, (*data, "train")),
    ]
    if evaluated:
        stages = _measured(stages, scope, student)
    return Recipe("DPO", stages, facts(found, guessed, student, config), report)


def pairs(config: ConfigDict, student: Student) -> Pairs:
    """The pairs that the config names, ready to be encoded.

    Raises:
      UserError: whatever is wrong with them.
    """
    wanted = "a function (chat, seed, **args) that returns lrm_align.recipes.pairing.Pairs"
    with attributed(config.pairs.factory, wanted):
        found = build(config.pairs.factory, {**plain(config.pairs.args), "seed": config.seed}, student.chat)
    if not isinstance(found, Pairs):
        raise UserError(f"{config.pairs.factory} returned a {type(found).__name__}; wanted {wanted}")
    return found


def facts(found: Pairs, guessed: Plan, student: Student, config: ConfigDict) -> list[str]:
    """Counts, the steps to expect, and one pair as it is trained on, with its masks."""
    skipped = ", ".join(f"{count} for {reason}" for reason, count in found.skipped.items() if count) or "none"
    fields = "".join(f"; {what} is not trained on, in {count} pairs" for what, count in found.left_out.items())
    trained = finetune.sources(config)
    chosen, rejected = next(found.traces())
    chat = student.chat

    def shown(trace: Trace, wanted: bool) -> str:
        # The mask of the loader: a token is trained on by its source alone.
        ids = [int(i) for i, source in zip(trace.ids, trace.sources) if (Source(source) in trained) == wanted]
        text = chat.decode(ids)
        return repr(text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}")

    return [
        *student.facts(),
        f"reference: the same model{' without adapters' if config.lora.rank else ', a frozen copy'}, "
        f"{config.reference.logp}",
        f"pairs: {found.size}; left out: {skipped}{fields}",
        f"training: at most {guessed.num_steps} steps of {guessed.rows} rows of {config.train.row_length} tokens, "
        f"mesh {dict(student.mesh.shape)}",
        f"pair {chosen.group_id!r}, masked (not trained on): {shown(chosen, False)}",
        f"trained on, chosen ({chosen.completion_ids.size} tokens): {shown(chosen, True)}",
        f"trained on, rejected ({rejected.completion_ids.size} tokens): {shown(rejected, True)}",
    ]


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished."""
    out = describe.report({name: part for name, part in summaries.items() if name != "filter"}, directories)
    if "pairs" in summaries:
        dropped = {reason: count for reason, count in summaries["pairs"]["skipped"].items() if count}
        out["traces"] = {"kept": {"pairs": summaries["pairs"]["pairs"]}, "dropped": dropped}
        if "left_out" in summaries["pairs"]:
            out["traces"]["left_out"] = summaries["pairs"]["left_out"]
    return out


def _measured(stages: list[Stage], scope: Scope, student: Student) -> list[Stage]:
    """The stages between a measurement before and one after."""
    config = scope.config
    args = measuring.arguments(config)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def after(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        trained = Student({**config.model, "path": str(inputs["export"] / "model")}, student.mesh)
        return measuring.run(directory, trained, config, {})

    first = scope.stage("before", before, model=student.identity, args=args)
    return [first, *stages, scope.stage("after", after, ("export",), args=args)]


def _kept(config: ConfigDict, directory: epath.Path) -> epath.Path:
    """Where stored log-probabilities lie: the directory that the config names, or the stage's own."""
    return epath.Path(config.reference.path) if config.reference.path else directory


def _stored(config: ConfigDict, inputs: Mapping[str, epath.Path]) -> epath.Path | None:
    return _kept(config, inputs["reference"]) if config.reference.logp == STORED else None
