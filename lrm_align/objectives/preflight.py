"""Trying an objective that a config names, before anything slow: a mistake in it ends in one line."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from lrm_align.batch import Batch
from lrm_align.errors import OURS, UserError, attributed
from lrm_align.objectives.objective import STEP, Objective

B, T, S = 2, 8, 4
WANTED = "pure functions as in lrm_align.objectives.Objective"


def check_objective(
    name: str,
    objective: Objective,
    known: Collection[str],
    *,
    tag_names: tuple[str, ...] = (),
    columns: Collection[str] = (),
) -> None:
    """Traces an objective on a batch of 2 × 8 tokens with the columns that a run will have; nothing is computed.

    Args:
      name: the import path of the factory that made it.
      objective: what the factory returned.
      known: the scores that somebody computes.
      tag_names: of the batches; without names there is no such column.
      columns: the batch's other optional columns, such as "pair_BxS".

    >>> from lrm_align.objectives import Objective, sft
    >>> def loss(scores, batch, normalizers):
    ...     return -scores["logp"] * batch.loss_mask_BxT, {}
    >>> check_objective("mine:objective", Objective(frozenset({"logp"}), sft().normalizers, loss), {"logp"})
    Traceback (most recent call last):
        ...
    lrm_align.errors.UserError: mine:objective: its loss has the shape (2, 8); wanted a scalar, a sum over the batch
    divided by its normalizers

    Raises:
      UserError: it names the factory, what was found and what is wanted.
    """
    if not isinstance(objective, Objective):
        raise UserError(
            f"{name} returned {_kind(objective)}; wanted an lrm_align.objectives.Objective(needs, normalizers, loss), "
            "as sft() is one"
        )
    unknown = sorted(set(objective.needs) - set(known))
    if unknown:
        raise UserError(f"{name} needs the scores {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    needs = sorted(objective.needs)
    scores = {need: jax.ShapeDtypeStruct((B, T), np.float32) for need in needs}
    given: dict[str, Any] = {}

    def whole(scores: Mapping[str, jax.Array], batch: Batch) -> Any:
        given["normalizers"] = objective.normalizers(batch)
        _check_mapping(name, "normalizers", given["normalizers"])
        normalizers = {**given["normalizers"], STEP: np.int32(0)}
        if objective.batch_statistics is not None:
            given["batch_statistics"] = objective.batch_statistics(scores, batch)
            _check_mapping(name, "batch_statistics", given["batch_statistics"])
            normalizers |= given["batch_statistics"]
        given["normalizers"] = normalizers
        return objective.loss(scores, batch, normalizers)

    with attributed(name, WANTED):
        try:
            result = jax.eval_shape(whole, scores, _batch(tag_names, columns))
        except KeyError as error:
            if name.startswith(OURS):
                raise
            there = ", ".join(sorted(given.get("normalizers", {}))) or "none"
            raise UserError(
                f"{name} reads {error.args[0]!r}, which is neither a score that it declares (needs: "
                f"{', '.join(needs) or 'none'}) nor one of its normalizers ({there})"
            ) from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(f"{name}: its loss returned {_kind(result)}; wanted (loss, metrics)")
    _check_loss(name, result[0])
    _check_metrics(name, result[1])


def _batch(tag_names: tuple[str, ...], columns: Collection[str]) -> Batch:
    """The shapes of a batch; a column's suffix says its own."""
    integers = {"tag_BxS", "pair_BxS"}

    def column(name: str) -> jax.ShapeDtypeStruct:
        dtype = np.int32 if name in integers else np.float32
        return jax.ShapeDtypeStruct((B, S) if name.endswith("BxS") else (B, T), dtype)

    optional = {name: column(name) for name in (*columns, *(("tag_BxS",) if tag_names else ()))}
    ids = jax.ShapeDtypeStruct((B, T), np.int32)
    return Batch(ids, ids, ids, column("loss_mask_BxT"), tag_names=tag_names, **optional)


def _check_loss(name: str, loss: Any) -> None:
    shape, dtype = _abstract(loss)
    if shape is None or shape != ():
        found = f"the shape {shape}" if shape is not None else f"the type {type(loss).__name__}"
        raise UserError(
            f"{name}: its loss has {found}; wanted a scalar, a sum over the batch divided by its normalizers"
        )
    if not np.issubdtype(dtype, np.floating):
        raise UserError(f"{name}: its loss is {dtype}; wanted floating point")


def _check_metrics(name: str, metrics: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise UserError(f"{name}: its metrics are {_kind(metrics)}; wanted {{name: (sum, weight)}}")
    for key, value in metrics.items():
        shapes = [_abstract(item)[0] for item in value] if isinstance(value, tuple) else []
        if len(shapes) != 2 or None in shapes or shapes[1] != () or len(shapes[0] or ()) > 1:
            found = f"shapes {', '.join(map(str, shapes))}" if shapes else _kind(value)
            raise UserError(
                f"{name}: its metric {key!r} is {found}; wanted (sum, weight), two scalars that add over micro-"
                "batches, or for a histogram counts over bins and their total"
            )


def _check_mapping(name: str, what: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f"{name}: its {what} returned {_kind(value)}; wanted {{name: scalar}}")


def _abstract(value: Any) -> tuple[tuple[int, ...] | None, Any]:
    """(shape, dtype) of an abstract array; (None, None) of anything else."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return value.shape, value.dtype
    return None, None


def _kind(value: Any) -> str:
    """What something is, in words.

    >>> _kind(1.5), _kind(jax.ShapeDtypeStruct((2, 8), np.float32))
    ('a float', 'an array of shape (2, 8)')
    """
    if isinstance(value, jax.ShapeDtypeStruct | jax.Array | np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"
