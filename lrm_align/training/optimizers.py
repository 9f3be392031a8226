"""Optimizers by config: AdamW, a schedule with warm-up, clipping."""

import dataclasses
from typing import Any, NamedTuple

import jax
import optax

from lrm_align.errors import UserError

NAMES = ("adamw",)
SCHEDULES = ("cosine", "linear", "constant")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """What a config says about the optimizer.

    Attributes:
      name: "adamw" (Loshchilov and Hutter 2019, arXiv 1711.05101); without weight decay it is Adam.
      learning_rate: at its peak.
      schedule: after the warm-up: "cosine" or "linear" to zero at the last step, or "constant".
      warmup: fraction of all steps over which the rate grows linearly from zero.
      b1, b2, eps: of Adam.
      weight_decay: decoupled; norms and biases are not decayed.
      clip: largest global norm of the gradient; 0 for no clipping.
    """

    name: str = "adamw"
    learning_rate: float = 1e-5
    schedule: str = "cosine"
    warmup: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0


class Optimizer(NamedTuple):
    """A gradient transformation with the schedule inside it, to be shown.

    Attributes:
      transform: of gradients.
      learning_rate: step -> rate.
    """

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule


def make_optimizer(settings: OptimizerSettings, num_steps: int) -> Optimizer:
    """The optimizer of a run.

    Args:
      settings: of the config.
      num_steps: of the whole run; the schedule ends there.

    Raises:
      UserError: an unknown name or schedule, or a number out of its range.
    """
    if settings.name not in NAMES:
        raise UserError(f"train.optimizer.name is {settings.name!r}; supported are {', '.join(NAMES)}")
    if settings.learning_rate <= 0:
        raise UserError(f"train.optimizer.learning_rate is {settings.learning_rate}; it must be above 0")
    for field in ("weight_decay", "clip"):
        if (value := vars(settings)[field]) < 0:
            raise UserError(f"train.optimizer.{field} is {value}; it must not be negative")
    rate = make_schedule(settings, num_steps)
    adamw = optax.adamw(rate, settings.b1, settings.b2, settings.eps, weight_decay=settings.weight_decay, mask=decayed)
    if settings.clip:
        return Optimizer(optax.chain(optax.clip_by_global_norm(settings.clip), adamw), rate)
    return Optimizer(adamw, rate)


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
    """Learning rate by step: a linear rise over the first `warmup` of the steps, then the schedule.

    As in transformers: step 0 of a warm-up has rate 0, and `num_steps`, one past the last, has rate 0.

    >>> rate = make_schedule(OptimizerSettings(learning_rate=1.0, schedule="linear", warmup=0.2), num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if settings.schedule not in SCHEDULES:
        raise UserError(f"train.optimizer.schedule is {settings.schedule!r}; supported are {', '.join(SCHEDULES)}")
    if not 0 <= settings.warmup < 1:
        raise UserError(f"train.optimizer.warmup is {settings.warmup}; it must be a fraction of the steps in [0, 1)")
    peak = settings.learning_rate
    warm = round(settings.warmup * num_steps)
    rest = max(num_steps - warm, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
    }[settings.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm), after], [warm]) if warm else after


def decayed(params: Any) -> Any:
    """Which parameters weight decay acts on: neither norms nor biases."""

    def is_decayed(path: tuple[Any, ...], _: Any) -> bool:
        return not str(path[-1].key).endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(is_decayed, params)
