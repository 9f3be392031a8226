"""The RL stage of a recipe: from a task to a policy, in one program or with samplers elsewhere, and its export."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from lrm_align import json_lines, stamps
from lrm_align.advantages import Transform
from lrm_align.advantages.preflight import check_transform
from lrm_align.config import build, plain
from lrm_align.errors import UserError
from lrm_align.models import hf, partition, peft
from lrm_align.objectives import Objective
from lrm_align.objectives.preflight import check_objective
from lrm_align.pages import card
from lrm_align.recipes import rollouts, separating
from lrm_align.recipes.scope import Scope, whole
from lrm_align.recipes.stage import Stage, Summary
from lrm_align.recipes.student import Student
from lrm_align.rl import separate
from lrm_align.rl.against_sampler import against_sampler, check_sampling
from lrm_align.rl.collect import Collector
from lrm_align.rl.colocated import Colocated
from lrm_align.rl.follow import Sampler
from lrm_align.rl.follow import follow as follow_orders
from lrm_align.rl.group import Source
from lrm_align.rl.learner import Learner, batch_rows
from lrm_align.rl.loop import reinforce
from lrm_align.rl.settings import RLSettings
from lrm_align.rl.task import Task, Tickets
from lrm_align.training import OptimizerSettings, Tuning, check_memory, full, lora, metrics, sharding
from lrm_align.training import mesh as meshes
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.scores import KNOWN, needs_reference

COLUMNS = ("advantage_BxT", "old_logp_BxT", "sampler_logp_BxT", "truncated_BxS")
SHOWN = ("reward/mean", "length/mean", "samples/truncated", "samples/unscored", "groups/without_spread", "gap/mean")
CURVES = ("loss", "entropy", "kl/", "clip/", "reward/", "length/", "mode/", "groups/", "samples/", "staleness/", "gap/")
SEPARATE = "separate"


def settings(config: ConfigDict) -> RLSettings:
    """The numbers of `config.rl`.

    Raises:
      UserError: one out of its range.
    """
    rl = plain(config.rl)
    names = {field.name for field in dataclasses.fields(RLSettings)}
    own = {name: value for name, value in rl.items() if name in names}
    return RLSettings(
        **own,
        dynamic=config.rl.max_refills > 0,
        temperature=config.rl.sampling.temperature,
        longest=config.rl.sampling.max_length,
        sync_every=config.rl.reference.sync_every,
        mixup=config.rl.reference.mixup,
        seed=config.seed,
    )


def check(student: Student, task: Task, config: ConfigDict) -> RLSettings:
    """Everything about RL that can be wrong before the first sample; returns the settings.

    Raises:
      UserError: objective, advantage, optimizer, adapters, batch, mesh or prompts don't fit each other or the model.
    """
    numbers, rl = settings(config), config.rl
    loss, credit = objective(config), advantage(config)
    loss = against_sampler(loss) if numbers.old_logp == "sampler" else loss
    check_objective(rl.objective, loss, KNOWN, tag_names=task.class_names, columns=COLUMNS)
    names = {"mode_names": task.mode_names, "class_names": task.class_names}
    check_transform(rl.advantage, credit, parts=len(task.parts), kl=numbers.kl_in_reward, **names)
    if rl.mode not in ("colocated", SEPARATE):
        raise UserError(f"config.rl.mode is {rl.mode!r}; supported are colocated, {SEPARATE}")
    if rl.lora.rank and rl.lora.dropout:
        raise UserError(
            f"config.rl.lora.dropout is {rl.lora.dropout}; it must be 0 in RL: the policy is compared with the one "
            "that sampled, token by token"
        )
    rows = batch_rows(numbers)
    meshes.check_fit(student.mesh, student.config, rows.number, rows.pieces)
    schedule = make_optimizer(OptimizerSettings(**plain(rl.optimizer)), numbers.steps * numbers.updates)
    if rl.mode == SEPARATE:
        separate.check(rl.max_staleness, rl.sampler_count)
    else:  # with samplers elsewhere, the trainer alone needs the memory, and asks for it when it starts
        check_memory(
            student.model, student.shapes, tuning(config, loss), schedule.transform, student.mesh,
            (rows.number, rows.length), rows.pieces, rl.chunk or None,
        )  # fmt: skip
    tickets = Tickets(task.prompts, config.seed)
    checked = collector(student, task, tickets, config, lambda line: None)
    requests = [checked.request(ticket) for ticket in range(len(task.prompts))]
    checked.engine.check(requests)
    check_sampling(numbers, (request.params for request in requests))
    return numbers


def objective(config: ConfigDict) -> Objective:
    """The loss that the config names."""
    return build(config.rl.objective, config.rl.objective_args)


def advantage(config: ConfigDict) -> Transform:
    """The credit that the config names."""
    return build(config.rl.advantage, config.rl.advantage_args)


def tuning(config: ConfigDict, loss: Objective) -> Tuning:
    """What trains: adapters of `config.rl.lora.rank`; for rank 0 all weights, with the untrained ones where needed."""
    rl = config.rl
    if rl.lora.rank:
        return lora(rl.lora.rank, rl.lora.alpha, 0.0, rl.lora.targets)
    fixed = needs_reference(loss.needs) or rl.kl_in_reward
    return full(reference=fixed and not rl.reference.sync_every)


def collector(
    student: Student, task: Task, tickets: Tickets, config: ConfigDict, log: Callable[[str], None]
) -> Collector:
    """What samples and grades groups, in the trainer's program or in a sampler's."""
    return Collector(
        student.model,
        student.chat,
        task,
        tickets,
        rollouts.engine_shape(config.rl.sampling),
        seed=config.seed,
        grade_seconds=config.rl.grade_seconds,
        mesh=student.mesh,
        log=log,
    )


def learner(directory: epath.Path | None, student: Student, task: Task, config: ConfigDict, log: Any) -> Learner:
    """The state to start or to go on from."""
    loss = objective(config)
    return Learner(
        student.model,
        student.params,
        loss,
        tuning(config, loss),
        OptimizerSettings(**plain(config.rl.optimizer)),
        settings(config),
        student.mesh,
        tag_names=task.class_names,
        workdir=directory,
        identity=student.identity,
        log=log,
    )


def run(
    directory: epath.Path, student: Student, task: Task, config: ConfigDict, log: Callable[[str], None] = print
) -> Summary:
    """Trains; returns what the report shows of it."""

    def indented(line: str) -> None:
        log(f"  {line}")

    numbers, tickets = settings(config), Tickets(task.prompts, config.seed)
    source = _source(directory, student, task, tickets, config, indented)
    learned = learner(directory, student, task, config, indented)
    if learned.step < numbers.steps:
        reinforce(
            learned, source, task, tickets, advantage(config), numbers, student.chat, workdir=directory, log=indented
        )
    else:
        source.close()
        learned.close()
    rows = json_lines.read_objects(directory / metrics.FILE)
    curves = {name: [(row["step"] + 1, row[name]) for row in rows if name in row] for name in _curves(rows)}
    last = {name: rows[-1][name] for name in SHOWN if rows and name in rows[-1]}
    return {"steps": numbers.steps, "losses": curves.get("loss", []), "curves": curves, "last": last}


def stage(
    scope: Scope,
    name: str,
    policy: Callable[[Mapping[str, epath.Path]], tuple[Student, Task]],
    depends: tuple[str, ...] = (),
    **more: Any,
) -> Stage:
    """The RL stage of a recipe, for the trainer and, where the mode is separate, for its samplers.

    Args:
      scope: of the recipe.
      name: of the stage.
      policy: directories of the stages it depends on -> what to start from, and the task.
      depends: names of these stages.
      **more: plain values that the stage depends on beside the config.
    """
    config = scope.config

    def trains(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        return run(directory, *policy(inputs), config)

    def samples(directory: epath.Path, inputs: Mapping[str, epath.Path], index: int, count: int) -> int:
        return follow(directory, *policy(inputs), config, index, count)

    return scope.stage(name, trains, depends, samples if config.rl.mode == SEPARATE else None, **more)


def follow(
    directory: epath.Path,
    student: Student,
    task: Task,
    config: ConfigDict,
    index: int,
    count: int,
    log: Callable[[str], None] = print,
) -> int:
    """Samples for the stage in another job until it needs no more; returns the groups written.

    Args:
      directory: of the stage.
      student: what the policy starts from.
      task: what is asked and how it is graded.
      config: of the run.
      index, count: sampler `index` of `count`.
      log: takes progress lines.
    """
    chosen = tuning(config, objective(config))
    like = jax.eval_shape(lambda params: chosen.init(jax.random.key(0), params), student.shapes)
    where = partition.shardings(like, student.mesh, student.model.rules)

    def attach(weights: Any) -> Any:
        frozen = chosen.freeze(student.params) if chosen.adapters else None
        return chosen.attach(jax.tree.map(sharding.put, weights, where), frozen, None)

    shared = directory / stamps.SHARED
    sampler = Sampler(
        shared,
        collector(student, task, Tickets(task.prompts, config.seed), config, log),
        like,
        attach,
        separating.about(student, task, config),
        index,
        count,
        chunk=2 * config.rl.sampling.slots // config.rl.samples,
        log=log,
    )
    return follow_orders(sampler, shared, index, count, log=log)


def export(directory: epath.Path, trained_in: epath.Path, student: Student, task: Task, config: ConfigDict) -> Summary:
    """Writes the merged model, and the adapters in PEFT's format where there are any, from the last checkpoint."""
    done = learner(trained_in, student, task, config, lambda line: None)
    params, trainable = done.trained()
    done.close()
    if done.step < config.rl.steps:
        raise ValueError(f"{trained_in} holds step {done.step} of {config.rl.steps}")
    hf.save(
        directory / "model",
        student.model,
        params,
        student.directory,
        config.export.dtype or student.export_dtype,
        end_of_turn_id=student.chat.end_of_turn_id,
    )
    adapters = bool(config.rl.lora.rank and config.export.adapters)
    if adapters:
        facts = peft.AdapterConfig(config.rl.lora.rank, config.rl.lora.alpha, 0.0, base=student.base)
        peft.save_adapters(directory / "adapters", trainable, facts)
    card.write(directory, whole(config), student.directory)
    return {"model": "model", "adapters": adapters}


def _source(
    directory: epath.Path, student: Student, task: Task, tickets: Tickets, config: ConfigDict, log: Any
) -> Source:
    if config.rl.mode == SEPARATE:
        return separating.source(directory, student, task, config, log)
    if jax.process_count() > 1:
        raise UserError('config.rl.mode is "colocated" on several hosts; the sampler runs on one: use "separate"')
    return Colocated(collector(student, task, tickets, config, log), config.rl.groups, config.rl.max_refills)


def _curves(rows: list[dict[str, Any]]) -> list[str]:
    """The scalars that people look at."""
    names = {name: None for row in rows for name, value in row.items() if isinstance(value, int | float)}
    return [name for name in names if name.startswith(CURVES)]
