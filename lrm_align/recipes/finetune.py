"""The train and export stages: from kept traces to adapters or weights, and to a Hugging Face directory."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align import json_lines, processes
from lrm_align.config import build, plain
from lrm_align.errors import UserError
from lrm_align.models import hf, peft
from lrm_align.objectives import Objective
from lrm_align.objectives.preflight import check_objective
from lrm_align.pages import card
from lrm_align.provenance import Source
from lrm_align.recipes.scope import whole
from lrm_align.recipes.selection import KEPT
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Loader, Plan, TokenStore, find_shards
from lrm_align.training import (
    OptimizerSettings,
    Trained,
    TrainSettings,
    Tuning,
    check_memory,
    full,
    lora,
    metrics,
    sharding,
    train,
)
from lrm_align.training import mesh as meshes
from lrm_align.training import validation as validation_
from lrm_align.training.loop import begin_run
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.scores import KNOWN, needs_reference
from lrm_align.training.validation import Validation

TAGS = ("harmful", "benign")


def read_by(train: str = "train", export: str = "export") -> dict[str, tuple[str, ...]]:
    """For a recipe's `Scope`: the settings that the stages of a training and of its export read."""
    return {"train": (train, export), "lora": (train, export), "export": (export,)}


def objective(config: ConfigDict) -> Objective:
    """The loss that the config names."""
    return build(config.train.objective, config.train.objective_args)


def tried_objective(config: ConfigDict, columns: Sequence[str] = ()) -> Objective:
    """The loss that the config names, after a trial on shapes.

    Args:
      config: of the run.
      columns: what its batches have beyond tokens, mask and tags.

    Raises:
      UserError: a mistake in it, with its import path and what was expected.
    """
    found = objective(config)
    check_objective(config.train.objective, found, KNOWN, tag_names=TAGS, columns=columns)
    return found


def optimizer(config: ConfigDict) -> OptimizerSettings:
    """The optimizer's numbers."""
    return OptimizerSettings(**plain(config.train.optimizer))


def tuned(config: ConfigDict) -> Tuning | None:
    """What trains: adapters of `config.lora.rank`; None for rank 0, which means all weights."""
    if not config.lora.rank:
        return None
    return lora(config.lora.rank, config.lora.alpha, config.lora.dropout, config.lora.targets)


def multiple(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
    """The rows of a batch come in multiples of data shards and micro-batches."""
    return mesh.shape["data"] * mesh.shape["fsdp"] * config.train.micro_batches


def plan(lengths: np.ndarray, config: ConfigDict, mesh: jax.sharding.Mesh, pairs_Px2: np.ndarray | None = None) -> Plan:
    """The packing plan of a run's data; `batch_traces` counts pairs where there are any.

    Raises:
      UserError: both or neither of batch_traces and batch_rows, or rows that the mesh does not divide.
    """
    t = config.train
    return Plan(
        lengths,
        row_length=t.row_length,
        seed=config.seed,
        batch_traces=t.batch_traces or None,
        batch_rows=t.batch_rows or None,
        epochs=t.epochs,
        max_segments=t.max_segments,
        overlong=t.overlong,
        rows_multiple=multiple(config, mesh),
        pairs_Px2=pairs_Px2,
    )


def check(student: Student, config: ConfigDict, prompts: int) -> Plan:
    """Everything about training that can be wrong before there are traces; returns the plan of guessed lengths.

    Raises:
      UserError: objective, optimizer, adapters, batch or mesh don't fit each other or the model.
    """
    guessed = plan(np.full(prompts, min(config.train.row_length, 2)), config, student.mesh)
    check_plan(student, config, guessed, needs_reference(tried_objective(config).needs))
    return guessed


def check_plan(student: Student, config: ConfigDict, guessed: Plan, reference: bool) -> None:
    """Whether model, mesh, optimizer and batches of a plan go together and into memory.

    Args:
      student: the model.
      config: of the run.
      guessed: the plan, of guessed lengths.
      reference: whether the untrained weights are kept where all weights train.

    Raises:
      UserError: they don't.
    """
    sources(config)
    meshes.check_fit(student.mesh, student.config, guessed.rows, config.train.micro_batches)
    shape = (guessed.rows, config.train.row_length)
    schedule = make_optimizer(optimizer(config), guessed.num_steps)
    what = tuned(config) or full(reference=reference)
    check_memory(
        student.model, student.shapes, what, schedule.transform, student.mesh, shape, config.train.micro_batches,
        config.train.chunk or None,
    )  # fmt: skip


def sources(config: ConfigDict) -> tuple[Source, ...]:
    """The sources of the tokens that are trained on.

    Raises:
      UserError: an unknown one.
    """
    names = tuple(config.train.train_sources)
    unknown = [name for name in names if name not in Source.__members__]
    if unknown or not names:
        raise UserError(
            f"config.train.train_sources is {names}; known are {', '.join(Source.__members__)}, at least one is needed"
        )
    return tuple(Source[name] for name in names)


def loader(kept: epath.Path, student: Student, config: ConfigDict) -> Loader:
    """Batches of the kept traces."""
    store = TokenStore.from_shards(find_shards(kept / KEPT))
    return Loader(
        store,
        plan(store.lengths, config, student.mesh),
        **sharding.share(student.mesh, student.model.rules)._asdict(),
        train_sources=sources(config),
        tag_names=TAGS,
        vocab_size=student.config.vocab_size,
    )


def run(
    directory: epath.Path,
    kept: epath.Path,
    student: Student,
    config: ConfigDict,
    log: Callable[[str], None] = print,
) -> Summary:
    """Trains; returns what the report shows of it."""
    return fit(directory, loader(kept, student, config), student, config, log)[0]


def fit(
    directory: epath.Path,
    batches: Loader,
    student: Student,
    config: ConfigDict,
    log: Callable[[str], None],
    validation: Validation | None = None,
) -> tuple[Summary, list[dict[str, float]]]:
    """Trains on batches; returns what the report shows of it, and all rows of metrics."""
    counts = batches.plan.counts
    log(f"  {counts['traces']} traces, {len(batches)} steps of {batches.plan.rows} rows, fill {batches.plan.fill:.2f}")
    _train(directory, batches, student, config, log, validation)
    # The file holds what earlier, interrupted processes did, too.
    rows = processes.shared("metrics of the training", lambda: json_lines.read_objects(directory / metrics.FILE))
    losses = [(row["step"] + 1, row["loss"]) for row in rows]
    return {"steps": len(batches), "losses": losses, "fill": batches.plan.fill, "plan": counts}, rows


def export(
    directory: epath.Path, kept: epath.Path, trained_in: epath.Path, student: Student, config: ConfigDict
) -> Summary:
    """Writes the merged model, and the adapters in PEFT's format where there are any, from the last checkpoint."""
    return write_out(directory, loader(kept, student, config), trained_in, student, config)


def write_out(
    directory: epath.Path, batches: Loader, trained_in: epath.Path, student: Student, config: ConfigDict
) -> Summary:
    """Writes what a run on these batches trained, read from its last checkpoint."""
    return save(directory, _train(trained_in, batches, student, config, lambda line: None), student, config)


def save(directory: epath.Path, trained: Trained, student: Student, config: ConfigDict) -> Summary:
    """Writes the merged model, the adapters where there are any, and the model card."""
    hf.save(
        directory / "model",
        student.model,
        trained.params,
        student.directory,
        config.export.dtype or student.export_dtype,
        end_of_turn_id=student.chat.end_of_turn_id,
    )
    if config.lora.rank and config.export.adapters:
        facts = peft.AdapterConfig(config.lora.rank, config.lora.alpha, config.lora.dropout, base=student.base)
        peft.save_adapters(directory / "adapters", trained.trainable, facts)
    card.write(directory, whole(config), student.directory)
    return {"model": "model", "adapters": bool(config.lora.rank and config.export.adapters)}


def best(directory: epath.Path, batches: Loader, student: Student, config: ConfigDict) -> Trained:
    """What a run on these batches kept as its best, by the loss on held-out examples."""
    what = tuned(config) or full(reference=needs_reference(objective(config).needs))
    schedule = make_optimizer(optimizer(config), len(batches))
    shape = (batches.plan.rows, config.train.row_length)
    place = directory / validation_.BEST
    state, frozen, checkpoints = begin_run(
        student.model, student.params, what, schedule.transform, student.mesh, shape, settings(config), place,
        student.identity, lambda line: None,
    )  # fmt: skip
    if checkpoints is not None:
        checkpoints.close()
    return Trained(what.attach(state.trainable, frozen, None), state.trainable, [])


def settings(config: ConfigDict) -> TrainSettings:
    """The numbers of a training that are not the optimizer's."""
    t = config.train
    return TrainSettings(
        micro_batches=t.micro_batches,
        chunk=t.chunk,
        checkpoint_every=t.checkpoint_every,
        keep=t.keep,
        log_every=t.log_every,
        seed=config.seed,
    )


def _train(
    directory: epath.Path, batches: Loader, student: Student, config: ConfigDict, log, validation: Any = None
) -> Trained:
    """Trains, or, where the last checkpoint is the end, reads it."""
    return train(
        student.model,
        student.params,
        objective(config),
        batches,
        tuning=tuned(config),
        optimizer=optimizer(config),
        settings=settings(config),
        mesh=student.mesh,
        workdir=directory,
        identity=student.identity,
        log=lambda line: log(f"  {line}"),
        validation=validation,
    )
