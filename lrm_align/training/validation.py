"""The loss on examples that are never trained on, measured while a run trains, and its best checkpoint."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from lrm_align import json_lines, processes
from lrm_align.batch import Batch
from lrm_align.models import Model
from lrm_align.training import sharding
from lrm_align.training.board import Board
from lrm_align.training.checkpoint import Checkpoints, identity_of
from lrm_align.training.scores import batch_scores
from lrm_align.training.state import State
from lrm_align.training.tuning import Tuning

FILE = "validation.jsonl"
BOARD = "validation"  # a run beside the training's in TensorBoard, so that both losses share a chart
BEST = "best"


@dataclasses.dataclass
class Validation:
    """Measures -Σ m·log p / Σ m over all batches of a loader.

    Rows {"step", "loss", "tokens"} go to FILE in the run's directory, and to TensorBoard. A run that is resumed
    measures again what lies beyond the checkpoint that it goes on from, with the same result.

    Args:
      model, tuning, mesh: of the run.
      batches: a loader; its batches have the shape of the run's.
      directory: of the run.
      every: steps between two measurements; the first step and the last are measured anyway. 0: only those.
      chunk: positions whose logits are in memory at a time; None for all.
      keep_best: whether the state with the lowest loss so far is kept as a checkpoint, in `directory / BEST`.
      identity: of the run's checkpoints.
      log: takes a line for each measurement.
    """

    model: Model
    tuning: Tuning
    batches: Any
    mesh: jax.sharding.Mesh
    directory: epath.Path
    every: int = 0
    chunk: int | None = 512
    keep_best: bool = False
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log: Callable[[str], None] = print
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def begin(self, step: int, state: State, frozen: Any) -> None:
        """Reads what was measured up to the step that a run begins or goes on with; measures an untrained model."""
        there = processes.shared("the validation so far", lambda: json_lines.read_objects(self.directory / FILE))
        self.rows = [row for row in there if row["step"] <= step]
        if not self.rows:
            self.measure(step, state, frozen)

    def after(self, step: int, num_steps: int, state: State, frozen: Any) -> None:
        """Measures after a step, where that is due."""
        if step == num_steps or (self.every and step % self.every == 0):
            self.measure(step, state, frozen)

    def measure(self, step: int, state: State, frozen: Any) -> None:
        """Measures, writes a row, and keeps the state where it is the best so far."""
        total = weight = 0.0
        for batch in self.batches.steps():
            sums = self._sums(state.trainable, frozen, sharding.global_batch(batch, self.mesh, self.model.rules))
            total, weight = total + float(sums[0]), weight + float(sums[1])
        before = min((row["loss"] for row in self.rows), default=float("inf"))
        self.rows.append({"step": step, "loss": total / weight, "tokens": weight})
        self.log(f"held out after step {step}: loss {total / weight:.4f} over {weight:,.0f} tokens")
        if self.keep_best and total / weight < before:
            self._keep(step, state)
        # The row comes after the checkpoint: a row that stands there has its checkpoint.
        json_lines.write(self.directory / FILE, self.rows)
        if processes.primary():
            self._board.add(step, {"loss": total / weight}, {})
            self._board.flush()

    @functools.cached_property
    def _board(self) -> Board:
        return Board(self.directory / BOARD, int(self.rows[-1]["step"]))

    @functools.cached_property
    def _sums(self) -> Callable[[Any, Any, Batch], tuple[jax.Array, jax.Array]]:
        def sums(trainable: Any, frozen: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
            params = self.tuning.attach(trainable, frozen, None)
            logp_BxT = batch_scores(self.model, params, None, batch, frozenset({"logp"}), self.chunk, 1.0)["logp"]
            return -jnp.sum(logp_BxT * batch.loss_mask_BxT), jnp.sum(batch.loss_mask_BxT)

        return jax.jit(sums)

    def _keep(self, step: int, state: State) -> None:
        place = self.directory / BEST
        if (place / str(step)).exists():  # a run that was killed since: the same state
            return
        checkpoints = Checkpoints(place, identity_of(self.model.config, state, self.identity), 1, self.log)
        checkpoints.save(state)
        checkpoints.close()
