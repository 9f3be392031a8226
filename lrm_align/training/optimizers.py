"""Optimizers by config: AdamW, a schedule with warm-up, clipping."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrm_align.settings import check
from lrm_align.settings.training import OptimizerSettings


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A gradient transformation with the schedule inside it, to be shown.

    Attributes:
      transform: of gradients; whatever is given, a gradient of exactly zero leaves its state and the weights alone, see
        `unless_zero`.
      learning_rate: updates done -> rate.
    """

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule

    def __post_init__(self) -> None:
        object.__setattr__(self, "transform", unless_zero(self.transform))


def unless_zero(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation, for which a gradient of exactly zero is no update: its state stays as it is, counts included.

    Fed with zeros, momentum and weight decay would go on moving the weights.

    >>> step = unless_zero(optax.sgd(0.1, momentum=0.9))
    >>> _, state = step.update(jnp.array(1.0), step.init(jnp.array(0.0)))
    >>> update, same = step.update(jnp.array(0.0), state)
    >>> float(update), same == state
    (-0.0, True)
    """

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, after = transform.update(gradients, state, params)
        something = any_nonzero(gradients)
        # A weight plus -0.0 is the weight, bit for bit; plus 0.0 it would not be where it is -0.0.
        return (
            jax.tree.map(lambda a: jnp.where(something, a, jnp.full_like(a, -0.0)), updates),
            jax.tree.map(lambda new, old: jnp.where(something, new, old), after, state),
        )

    return optax.GradientTransformation(transform.init, update)


def any_nonzero(gradients: Any) -> jax.Array:
    """Whether any entry is not zero; NaN is not. A norm would underflow where entries are below 1e-23."""
    return jnp.any(jnp.stack([jnp.any(gradient != 0) for gradient in jax.tree.leaves(gradients)]))


def make_optimizer(settings: OptimizerSettings, num_steps: int) -> Optimizer:
    """The optimizer of a run.

    Args:
      settings: of the config.
      num_steps: of the whole run; the schedule ends there.

    Raises:
      UserError: an unknown name or schedule, or a number out of its range.
    """
    check(dataclasses.asdict(settings), OptimizerSettings, "train.optimizer")
    rate = make_schedule(settings, num_steps)
    adamw = optax.adamw(rate, settings.b1, settings.b2, settings.eps, weight_decay=settings.weight_decay, mask=decayed)
    if settings.clip:
        return Optimizer(optax.chain(optax.clip_by_global_norm(settings.clip), adamw), rate)
    return Optimizer(adamw, rate)


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
    """Learning rate by step: a linear rise over the first `warmup` of the steps, then the schedule.

    As in transformers: the steps of the warm-up are ceil(warmup · num_steps), step 0 of them has rate 0, and
    `num_steps`, one past the last, has rate 0.

    >>> rate = make_schedule(OptimizerSettings(learning_rate=1.0, schedule="linear", warmup=0.2), num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    peak = settings.learning_rate
    warm = math.ceil(num_steps * settings.warmup)
    rest = max(num_steps - warm, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
    }[settings.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm), after], [warm]) if warm else after


def updates_done(optimizer_state: Any, otherwise: jax.Array) -> jax.Array:
    """Updates that the optimizer counts in its state, where its schedule stands; steps without a gradient are none.

    Args:
      optimizer_state: of the gradient transformation.
      otherwise: what to give for a transformation that counts nothing.
    """
    counts = optax.tree.get_all_with_path(optimizer_state, "count")
    return counts[0][1] if counts else otherwise


def decayed(params: Any) -> Any:
    """Which parameters weight decay acts on: neither norms nor biases."""

    def is_decayed(path: tuple[Any, ...], _: Any) -> bool:
        return not str(path[-1].key).endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(is_decayed, params)
