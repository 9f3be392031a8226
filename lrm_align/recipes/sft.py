"""Supervised fine-tuning on conversations that others wrote.

Stages: render the examples and hold a share of them out; train; write the model out. The examples are read and rendered
before anything starts, so that `--dry_run` shows them as they are trained on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align import data as data_
from lrm_align.config import plain
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.recipes import describe, describe_sft, finetune
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.selection import KEPT
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.settings import made
from lrm_align.settings.data import DataSettings
from lrm_align.traces import Loader, Plan, ShardWriter, TokenStore, Trace, find_shards
from lrm_align.training import full, make_mesh, sharding
from lrm_align.training.scores import needs_reference
from lrm_align.training.validation import Validation

HELD_OUT = "validation"
READ_BY = {
    "data": ("data",),
    "data.validate_every": ("train",),
    "data.keep_best": ("train", "export"),
    **finetune.read_by(),
    "train": ("train",),
    "train.row_length": ("data", "train"),
}


class Examples(NamedTuple):
    """What a run learns from, and what it is measured on.

    Attributes:
      read: the data set.
      train, held_out: the traces of its two parts.
      plan: of the batches.
    """

    read: data_.Read
    train: data_.Rendered
    held_out: data_.Rendered
    plan: Plan

    @property
    def dropped(self) -> dict[str, int]:
        """How many examples are in neither part, by reason."""
        parts = (self.read.dropped, self.train.dropped, self.held_out.dropped)
        found: dict[str, int] = {}
        for part in parts:
            for reason, count in part.items():
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def identity(self) -> str:
        """Changes when any token of them or its mask does."""
        seen = hashlib.sha256()
        for part in (self.train.traces, self.held_out.traces):
            for trace in part:
                seen.update(trace.ids.tobytes() + trace.sources.tobytes())
            seen.update(b"held out")
        return seen.hexdigest()


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before anything slow starts.
    """
    del workdir
    mesh = make_mesh(plain(config.mesh))
    settings = made(DataSettings, config.data, "config.data")
    if settings.keep_best and not settings.validation:
        raise UserError("config.data.keep_best needs held-out examples: config.data.validation is 0")
    if Source.INJECTED not in finetune.sources(config):
        raise UserError(
            f"config.train.train_sources is {tuple(config.train.train_sources)}; answers that others wrote are INJECTED"
        )
    student = Student(config.model, mesh)
    found = examples(settings, student, config)
    identity = found.identity
    reference = needs_reference(finetune.tried_objective(config).needs)
    finetune.check_plan(student, config, found.plan, reference)

    def write(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        for name, part in ((KEPT, found.train.traces), (HELD_OUT, found.held_out.traces)):
            with ShardWriter(directory / name, identity, flush_every=1024, prefix=name) as writer:
                for trace in part:
                    if trace.key not in writer.done:
                        writer.add(trace)
        return {"examples": _count(found.train), "held_out": _count(found.held_out), "dropped": found.dropped}

    def train(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        for line in describe_sft.few(found.plan, config):
            print(f"  {line}")
        batches = finetune.loader(inputs["data"], student, config)
        watch = _validation(directory, inputs["data"], student, config) if settings.validation else None
        summary, _ = finetune.fit(directory, batches, student, config, print, watch)
        return {**summary, "validation": watch.rows} if watch is not None else summary

    def export(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        if not config.data.keep_best:
            return finetune.export(directory, inputs["data"], inputs["train"], student, config)
        batches = finetune.loader(inputs["data"], student, config)
        return finetune.save(directory, finetune.best(inputs["train"], batches, student, config), student, config)

    scope, model = Scope(config, READ_BY), student.identity
    stages = [
        scope.stage("data", write, examples=identity, model=model),
        scope.stage("train", train, ("data",), model=model),
        scope.stage("export", export, ("data", "train")),
    ]
    return Recipe("SFT", stages, describe_sft.facts(found, student, config), report)


def examples(settings: DataSettings, student: Student, config: ConfigDict) -> Examples:
    """Reads, splits and renders the data set, and plans its batches.

    Raises:
      UserError: whatever is wrong with it, or nothing that is left to train on.
    """
    read = data_.read(
        settings.path,
        format=settings.format,
        split=settings.split,
        subset=settings.subset,
        columns=settings.columns,
        seed=config.seed,
        limit=settings.limit,
    )
    parts = data_.held_out(read.kept, settings.validation)
    length = config.train.row_length
    train, held_out = (
        data_.render(
            part,
            student.chat,
            turns=settings.turns,
            thought=settings.thoughts,
            system_turn=settings.system,
            row_length=length,
            template_kwargs=dict(settings.template_kwargs),
        )
        for part in parts
    )
    if not train.traces:
        why = "; ".join(f"{count} {reason} ({train.first[reason]})" for reason, count in train.dropped.items())
        raise UserError(f"data: no example of {settings.path} is left to train on: {why}")
    lengths = _lengths(train.traces)
    if config.train.overlong == "drop" and lengths.min() > length:
        raise UserError(
            f"data: every example of {settings.path} is longer than a row of {length} tokens, the shortest has "
            f"{lengths.min()}; raise config.train.row_length, or set config.train.overlong to 'truncate'"
        )
    if settings.validation and not any(_fits(trace, config) for trace in held_out.traces):
        raise UserError(
            f"data: none of the {_count(held_out) or len(parts[1])} held-out examples fits a row of {length} tokens; "
            "raise config.train.row_length or config.data.validation"
        )
    return Examples(read, train, held_out, finetune.plan(lengths, config, student.mesh))


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished."""
    out = describe.report(summaries, directories)
    if "data" in summaries:
        told = summaries["data"]
        kept = {"examples": told["examples"]} | ({"held out": told["held_out"]} if told["held_out"] else {})
        out["traces"] = {"kept": kept, "dropped": told["dropped"]}
    return out


def _validation(directory: epath.Path, kept: epath.Path, student: Student, config: ConfigDict) -> Validation:
    """The measurement of the held-out examples, in batches of the training's shape."""
    t = config.train
    store = TokenStore.from_shards(find_shards(kept / HELD_OUT))
    rows = finetune.loader(kept, student, config).plan.rows
    plan = Plan(
        store.lengths, row_length=t.row_length, seed=0, batch_rows=rows, max_segments=t.max_segments,
        overlong=t.overlong, rows_multiple=finetune.multiple(config, student.mesh),
    )  # fmt: skip
    batches = Loader(
        store,
        plan,
        **sharding.share(student.mesh, student.model.rules)._asdict(),
        train_sources=finetune.sources(config),
        tag_names=finetune.TAGS,
        vocab_size=student.config.vocab_size,
    )
    return Validation(
        student.model,
        finetune.tuned(config) or full(reference=needs_reference(finetune.objective(config).needs)),
        batches,
        student.mesh,
        directory,
        config.data.validate_every,
        t.chunk or None,
        config.data.keep_best,
        student.identity,
        lambda line: print(f"  {line}"),
    )


def _fits(trace: Trace, config: ConfigDict) -> bool:
    return config.train.overlong != "drop" or trace.length <= config.train.row_length


def _lengths(traces: Sequence[Trace]) -> np.ndarray:
    return np.array([trace.length for trace in traces], np.int64)


def _count(part: data_.Rendered) -> int:
    """Examples, of which one may be several traces."""
    return len({trace.prompt_id for trace in part.traces})
