"""Objectives from objectives: weighted sums, and losses on tagged traces only."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives.objective import STEP, Metrics, Normalizers, Objective, Scores
from lrm_align.objectives.schedules import Schedule, constant

NORMALISE = ("batch", "own")


def combine(parts: Mapping[str, tuple[float | Schedule, Objective]]) -> Objective:
    """The weighted sum of objectives: L = Σ_i w_i · L_i. Metrics and normalizers carry the part's name in front.

    A part of weight 0 is computed all the same: that is how to watch a score without training on it.

    Args:
      parts: {name: (weight, objective)}. A weight is a number, or a function from the number of the step to one, such
        as `schedules.linear(0.0, 1.0, steps=100)`; outside of a training step the number is 0.

    Raises:
      UserError: nothing to combine, a name that is empty, reserved or has a slash, or a weight that is not finite.

    >>> from lrm_align.objectives import kl_to_reference, sft, where
    >>> parts = {"refuse": (1.0, where("harmful", sft())), "keep": (1.0, where("benign", kl_to_reference()))}
    >>> sorted(combine(parts).needs)
    ['kl_forward', 'logp']
    """
    if not parts:
        raise UserError("combine: there are no objectives to combine")
    weights = {name: _schedule(name, weight) for name, (weight, _) in parts.items()}

    def normalizers(batch: Batch) -> Normalizers:
        named = {name: objective.normalizers(batch) for name, (_, objective) in parts.items()}
        return _prefixed(named)

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        total = jnp.float32(0)
        metrics = {}
        step = normalizers.get(STEP, 0)
        for name, (_, objective) in parts.items():
            part, metrics[name] = objective.loss(scores, batch, _of(name, normalizers))
            total += weights[name](step) * part
        return total, _prefixed(metrics)

    def batch_statistics(scores: Scores, batch: Batch) -> Normalizers:
        return _prefixed({n: o.batch_statistics(scores, batch) for n, (_, o) in parts.items() if o.batch_statistics})

    needs = frozenset().union(*(objective.needs for _, objective in parts.values()))
    asked = any(objective.batch_statistics for _, objective in parts.values())
    return Objective(needs, normalizers, loss, batch_statistics if asked else None)


def where(tag: str, objective: Objective, normalise: str = "batch") -> Objective:
    """An objective on the traces with a tag: the loss mask is 0 everywhere else.

    Args:
      tag: one of the batch's `tag_names`.
      objective: on the traces with the tag.
      normalise: what the sums are divided by: "batch": the tokens of the whole batch, so that parts weigh by their
        share of tokens; "own": the tag's own tokens, so that a part weighs the same however rare it is. Without any
        such token the loss is 0 either way.

    Raises:
      UserError: an unknown `normalise`; in use, a batch without this tag among its names.
    """
    if normalise not in NORMALISE:
        raise UserError(f"where: normalise is {normalise!r}; supported are {', '.join(NORMALISE)}")

    def normalizers(batch: Batch) -> Normalizers:
        return objective.normalizers(batch if normalise == "batch" else tagged(batch, tag))

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        return objective.loss(scores, tagged(batch, tag), normalizers)

    statistics = objective.batch_statistics
    return Objective(
        objective.needs,
        normalizers,
        loss,
        None if statistics is None else lambda scores, batch: statistics(scores, tagged(batch, tag)),
    )


def tagged(batch: Batch, tag: str) -> Batch:
    """The batch with a loss mask that is 0 outside of the traces with a tag.

    Raises:
      UserError: the batch has no such tag name.
    """
    if batch.tag_BxS is None or tag not in batch.tag_names:
        known = ", ".join(batch.tag_names) or "none"
        raise UserError(f"objective: where({tag!r}, …) needs batches with this tag; their tag names are: {known}")
    segment_ids_BxT = jnp.asarray(batch.segment_ids_BxT)
    tag_BxT = jnp.take_along_axis(jnp.asarray(batch.tag_BxS), jnp.maximum(segment_ids_BxT - 1, 0), axis=1)
    chosen_BxT = (segment_ids_BxT > 0) & (tag_BxT == batch.tag_names.index(tag))
    return batch.replace(loss_mask_BxT=jnp.where(chosen_BxT, batch.loss_mask_BxT, 0.0))


def _schedule(name: str, weight: float | Schedule) -> Schedule:
    if not name or "/" in name or name == STEP:
        raise UserError(f"combine: {name!r} can't name a part: a name is not empty, not {STEP!r}, and has no slash")
    if callable(weight):
        return weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UserError(f"combine: the weight of {name!r} is {weight!r}; a finite number or a schedule would be right")
    return constant(float(weight))


def _prefixed(parts: Mapping[str, Mapping]) -> dict:
    return {f"{name}/{key}": value for name, part in parts.items() for key, value in part.items()}


def _of(name: str, named: Mapping[str, jax.Array]) -> Normalizers:
    """A part's own normalizers, and the number of the step, which belongs to all parts."""
    prefix = f"{name}/"
    own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    return own | ({STEP: named[STEP]} if STEP in named else {})
