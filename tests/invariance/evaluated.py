"""Loss, metrics and gradient of every objective of the table on some rows, from one compiled program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.batch import Batch
from lrm_align.objectives import STEP, Objective
from tests.invariance import packing
from tests.invariance.table import OBJECTIVES

STEP_NUMBER = 3
FAST = {"xla_backend_optimization_level": 0}  # these programs are compiled once and run a few times


class Evaluated(NamedTuple):
    """What an objective gave.

    Attributes:
      loss: scalar.
      metrics: {name: (sum, weight)}.
      gradient: {score: BxT}.
    """

    loss: Any
    metrics: dict[str, tuple[Any, Any]]
    gradient: dict[str, Any]

    def by_token(self, rows: packing.Rows) -> "Evaluated":
        """With the gradient in the order of the traces' tokens."""
        return self._replace(gradient={score: rows.by_token(g) for score, g in self.gradient.items()})


def normalizers_of(objective: Objective, scores: Any, batch: Batch) -> dict[str, Any]:
    """All that the training step gives to a loss."""
    found = objective.normalizers(batch) | {STEP: STEP_NUMBER}
    if objective.batch_statistics is not None:
        found |= jax.lax.stop_gradient(objective.batch_statistics(scores, batch))
    return found


def _all(scores: Any, batch: Batch, all_scores: Any, all_rows: Batch) -> dict[str, Evaluated]:
    found = {}
    for name, objective in OBJECTIVES.items():
        normalizers = normalizers_of(objective, all_scores, all_rows)
        loss = functools.partial(objective.loss, batch=batch, normalizers=normalizers)
        needed = {score: scores[score] for score in objective.needs}
        (value, metrics), gradient = jax.value_and_grad(lambda s, f=loss: f(s), has_aux=True)(needed)
        found[name] = Evaluated(value, metrics, gradient)
    return found


_program = jax.jit(_all, compiler_options=FAST)


def evaluated(
    rows: packing.Rows, whole: packing.Rows | None = None, put: Any = jnp.asarray, dtype: str = "float64"
) -> dict[str, Evaluated]:
    """Every objective on some rows, with the normalizers of the whole batch; `put` places the arrays on devices."""
    whole = whole or rows
    with jax.enable_x64(dtype == "float64"):
        typed = functools.partial(_typed, dtype=dtype)
        arguments = jax.tree.map(put, jax.tree.map(typed, (rows.scores, rows.batch, whole.scores, whole.batch)))
        return jax.device_get(_program(*arguments))


def _typed(a: np.ndarray, dtype: str) -> np.ndarray:
    """One type for all callers, so that they share the program."""
    return a.astype(dtype) if np.issubdtype(a.dtype, np.floating) else a


class _Constants:
    """stop_gradient that hands out at later evaluations what it was given at the first: a constant, as it means."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.at: int | None = None

    def __call__(self, value: Any) -> Any:
        if self.at is None:
            self.seen.append(value)
            return value
        self.at += 1
        return self.seen[self.at - 1]


def slopes(rows: packing.Rows, direction: dict[str, np.ndarray], patch: Any, h: float = 1e-6) -> dict[str, Any]:
    """{objective: slope of its loss} along a direction of the scores, by central differences.

    Args:
      rows: where.
      direction: {score: BxT}.
      patch: pytest's monkeypatch: what a loss holds constant for its gradient is held constant here.
      h: half of the distance.
    """

    def all_slopes(scores: Any, batch: Batch) -> dict[str, Any]:
        found = {}
        for name, objective in OBJECTIVES.items():
            normalizers = normalizers_of(objective, scores, batch)
            constants = _Constants()
            patch.setattr(jax.lax, "stop_gradient", constants)
            objective.loss(scores, batch, normalizers)
            ends = []
            for sign in (-1, 1):
                constants.at = 0
                moved = {score: a + sign * h * direction[score] for score, a in scores.items()}
                ends.append(objective.loss(moved, batch, normalizers)[0])
            patch.undo()
            found[name] = (ends[1] - ends[0]) / (2 * h)
        return found

    with jax.enable_x64(True):
        return jax.device_get(jax.jit(all_slopes, compiler_options=FAST)(rows.scores, rows.batch))
