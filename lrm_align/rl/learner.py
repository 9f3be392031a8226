"""The learner: state on the mesh, two compiled programs (scores before an update, the update), and its checkpoints."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from lrm_align.batch import Batch
from lrm_align.models import Model, partition
from lrm_align.objectives import Objective
from lrm_align.rl.against_sampler import against_sampler
from lrm_align.rl.batches import Packed, Rows, pack, rows_for
from lrm_align.rl.gap import with_gap
from lrm_align.rl.settings import RLSettings
from lrm_align.traces import Trace
from lrm_align.training import OptimizerSettings, TrainSettings, Tuning, make_step, sharding
from lrm_align.training import mesh as meshes
from lrm_align.training.loop import begin_run
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.scores import REFERENCE_LOGP
from lrm_align.training.step import make_scorer
from lrm_align.training.synced import reference_of, synced

UNROLL_UP_TO = 8  # layers


def batch_rows(settings: RLSettings) -> Rows:
    """The static size of an update's batch.

    Raises:
      UserError: a trace may be longer than a row.
    """
    traces = settings.groups * settings.samples // settings.minibatches
    return rows_for(traces, settings.longest, settings.row_length, settings.piece_rows, settings.max_segments)


class Learner:
    """What an RL run trains.

    Args:
      model: static.
      params: to start from.
      objective: the loss.
      tuning: what trains.
      optimizer: its numbers.
      settings: the rest of them.
      mesh: of the run.
      tag_names: of the batches.
      workdir: of checkpoints; None for none.
      identity: plain values that tell this run's weights from others.
      log: takes warnings.

    Attributes:
      state: step counts updates.
      step: steps of RL that are done.

    Raises:
      UserError: sizes, mesh, memory or checkpoint that don't fit each other.
    """

    def __init__(
        self,
        model: Model,
        params: Any,
        objective: Objective,
        tuning: Tuning,
        optimizer: OptimizerSettings,
        settings: RLSettings,
        mesh: jax.sharding.Mesh,
        *,
        tag_names: tuple[str, ...] = (),
        workdir: epath.Path | None = None,
        identity: Mapping[str, Any] | None = None,
        log: Callable[[str], None] = print,
    ):
        model = _unrolled_on_cpu(model)
        self.rows = batch_rows(settings)
        self._model, self._tuning, self._mesh, self._tag_names = model, tuning, mesh, tag_names
        self._settings = settings
        meshes.check_fit(mesh, model.config, self.rows.number, self.rows.pieces)
        schedule = make_optimizer(optimizer, settings.steps * settings.updates)
        reference = None
        if settings.sync_every:
            schedule, reference = synced(schedule, settings.sync_every, settings.mixup), reference_of(tuning)
        shared: dict[str, Any] = {"micro_batches": self.rows.pieces, "chunk": settings.chunk or None}
        shared |= {"temperature": settings.temperature, "reference": reference}
        if settings.old_logp == "sampler":
            objective = against_sampler(objective)
        objective = with_gap(objective, settings.updates)
        self._step_fn = make_step(model, objective, schedule, tuning, skip_empty=True, **shared)
        needs = {"logp"} if settings.old_logp == "recomputed" else set()
        needs |= {"logp", REFERENCE_LOGP} if settings.kl_in_reward else set()
        self._scorer = make_scorer(model, tuning, frozenset(needs), **shared) if needs else None
        self._transform = schedule.transform
        train = TrainSettings(
            micro_batches=self.rows.pieces, chunk=settings.chunk, keep=settings.keep, seed=settings.seed
        )
        where = workdir / "checkpoints" if workdir is not None and settings.checkpoint_every else None
        shape = (self.rows.number, self.rows.length)
        self.state, self._frozen, self._checkpoints = begin_run(
            model, params, tuning, schedule.transform, mesh, shape, train, where, identity, log
        )
        self._update: Any = None
        self._score: Any = None

    @property
    def step(self) -> int:
        """Steps of RL that are done."""
        return int(self.state.step) // self._settings.updates

    def params(self) -> Any:
        """The policy's parameters, adapters attached. Good until the next update, which donates what trains."""
        return self._tuning.attach(self.state.trainable, self._frozen, None)

    def pack(self, traces: Sequence[Trace]) -> Packed:
        """The rows of an update."""
        return pack(traces, self.rows, self._tag_names)

    def scores(self, batch: Batch) -> dict[str, np.ndarray]:
        """{name: BxT} before an update, of the policy and where asked its reference; {} where nobody reads any."""
        if self._scorer is None:
            return {}
        if self._score is None:
            self._score = self._compiled(self._scorer, batch)
        with jax.set_mesh(self._mesh):
            return jax.device_get(self._score(self.state, self._frozen, self._global(batch)))

    def update(self, batch: Batch) -> dict[str, Any]:
        """One optimizer step; its metrics, on the device."""
        batch = self._global(batch)
        if self._update is None:
            rules = self._model.rules
            self._update = sharding.compile_step(
                self._step_fn, self.state, self._frozen, batch, self._transform, self._mesh, rules
            )
        with jax.set_mesh(self._mesh):
            self.state, values = self._update(self.state, self._frozen, batch)
        return values

    @property
    def report(self) -> dict[str, Any] | None:
        """What `save` was given with the checkpoint that this run goes on from; None without one."""
        return None if self._checkpoints is None else self._checkpoints.report

    def save(self, report: Mapping[str, Any] | None = None) -> bool:
        """Starts writing a checkpoint, with plain values beside it; whether there is a place for one."""
        if self._checkpoints is not None:
            self._checkpoints.save(self.state, report)
        return self._checkpoints is not None

    def check(self) -> None:
        """Looks whether the checkpoint that is under way has failed.

        Raises:
          CannotWriteError: it has.
        """
        if self._checkpoints is not None:
            self._checkpoints.check()

    def close(self) -> None:
        """Waits until all checkpoints are written."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def trained(self) -> tuple[Any, Any]:
        """(parameters with adapters attached, what trained)."""
        return self.params(), self.state.trainable

    def _global(self, batch: Batch) -> Batch:
        """This process's rows, on the mesh."""
        share = sharding.share(self._mesh, self._model.rules)
        each = self.rows.number // share.hosts
        mine = jax.tree.map(lambda a: a[share.host * each : (share.host + 1) * each], batch)
        return sharding.global_batch(mine, self._mesh, self._model.rules)

    def _compiled(self, scorer: Callable[..., Any], batch: Batch) -> Any:
        rules, mesh = self._model.rules, self._mesh
        jitted = jax.jit(
            scorer,
            in_shardings=(
                sharding.state_shardings(self.state, self._transform, mesh, rules),
                sharding.frozen_shardings(self._frozen, mesh, rules),
                sharding.batch_sharding(mesh, rules),
            ),
            out_shardings=NamedSharding(mesh, PartitionSpec()),
        )
        with jax.set_mesh(mesh):
            return jitted.lower(self.state, self._frozen, self._global(batch)).compile()


def _unrolled_on_cpu(model: Model) -> Model:
    """A CPU takes a third less time for an update of a shallow model whose layers are unrolled (see `Engine`, too)."""
    shallow = partition.platform() == "cpu" and model.config.num_layers <= UNROLL_UP_TO
    return dataclasses.replace(model, scan=False) if shallow else model
