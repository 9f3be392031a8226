"""Weights that change with the number of the step, for `combine`: pure functions step -> weight."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from lrm_align.errors import UserError
from lrm_align.objectives.pieces import check_number

Schedule = Callable[[Any], Any]  # the step's number, an int or a scalar array, to a number


def constant(value: float) -> Schedule:
    """The same weight at every step.

    >>> constant(0.5)(1000)
    0.5
    """
    check_number("constant", "value", value)
    return lambda step: value


def linear(begin: float, end: float, steps: int, delay: int = 0) -> Schedule:
    """From `begin` to `end` in a straight line over `steps` steps, after `delay` steps of `begin`.

    w(t) = begin + (end - begin) · clip((t - delay) / steps, 0, 1).

    >>> warm_up = linear(0.0, 1.0, steps=10, delay=5)
    >>> [round(float(warm_up(t)), 6) for t in (0, 5, 10, 15, 100)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    _check("linear", begin, end, steps, delay)
    return lambda step: begin + (end - begin) * _share(step, steps, delay)


def cosine(begin: float, end: float, steps: int, delay: int = 0) -> Schedule:
    """From `begin` to `end` along half a cosine over `steps` steps, after `delay` steps of `begin`.

    w(t) = end + (begin - end) · (1 + cos(π · clip((t - delay) / steps, 0, 1))) / 2.

    >>> decay = cosine(1.0, 0.0, steps=10)
    >>> [round(float(decay(t)), 6) for t in (0, 5, 10, 100)]
    [1.0, 0.5, 0.0, 0.0]
    """
    _check("cosine", begin, end, steps, delay)
    return lambda step: end + (begin - end) * (1 + jnp.cos(jnp.pi * _share(step, steps, delay))) / 2


def _share(step: Any, steps: int, delay: int) -> Any:
    return jnp.clip((step - delay) / steps, 0.0, 1.0)


def _check(name: str, begin: float, end: float, steps: int, delay: int) -> None:
    check_number(name, "begin", begin)
    check_number(name, "end", end)
    for argument, value, least in (("steps", steps, 1), ("delay", delay, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"schedules.{name}: {argument} is {value!r}; a whole number of at least {least} is right")
