"""The pieces that a loss is composed of: named in a config, or given as a function."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lrm_align.errors import UserError


def piece(axis: str, known: Mapping[str, Callable[..., Any]], spec: Any) -> Any:
    """The piece that a name, a name with arguments, or a value stands for.

    Args:
      axis: what the piece is, for messages: "policy_gradient: surrogate".
      known: {name: factory}.
      spec: a name, for the factory's defaults; (name, argument, …); or the piece itself, as any factory or a fork
        makes it.

    Raises:
      UserError: an unknown name, with the known ones, or arguments that the factory does not take.

    >>> piece("power", {"square": lambda: 2, "other": lambda exponent: exponent}, ("other", 3))
    3
    """
    if type(spec) not in (str, tuple, list):
        if callable(spec) or isinstance(spec, tuple):  # a function, or a value made of functions
            return spec
        raise UserError(f"{axis} is {spec!r}; a function or one of {', '.join(known)} would be right")
    name, *arguments = (spec,) if isinstance(spec, str) else spec or ("",)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{axis} is {name!r}; supported are {', '.join(known)}")
    try:
        inspect.signature(known[name]).bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(inspect.signature(known[name]).parameters) or "none"
        raise UserError(f"{axis} {name!r}: {error}; its arguments are: {wanted}") from None
    return known[name](*arguments)


def check_tokens(axis: str, function: Callable[..., Any], found: Any, wanted: tuple[int, ...]) -> None:
    """Refuses a piece whose result is not an array of one value a token.

    Raises:
      UserError: naming the function, what it gave and what would be right.
    """
    if isinstance(found, jax.Array) and found.shape == wanted:
        return
    name = f"{function.__module__}:{function.__qualname__}" if inspect.isfunction(function) else repr(function)
    given = f"an array of shape {found.shape}" if isinstance(found, jax.Array) else f"a {type(found).__name__}"
    raise UserError(f"{axis} {name} gave {given}; an array of one value a token, {wanted}, would be right")


def check_number(
    where: str, argument: str, value: float, least: float = -math.inf, most: float = math.inf, above: bool = False
) -> None:
    """Refuses what is not a finite number within bounds.

    Args:
      where: the function, for the message.
      argument: its argument.
      value: what was given.
      least, most: the bounds.
      above: whether the lower bound itself is refused.

    Raises:
      UserError: naming all of these.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and least <= value <= most and not (above and value == least):
        return
    parts = ["a finite number"]
    if least > -math.inf:
        parts.append(f"above {least:g}" if above else f"of at least {least:g}")
    if most < math.inf:
        parts.append(f"of at most {most:g}")
    raise UserError(f"{where}: {argument} is {value!r}; {' '.join(parts)} would be right")


def check_bounds(where: str, low: float, high: float) -> None:
    """Refuses bounds that are not 0 <= low <= high, finite."""
    check_number(where, "low", low, 0.0)
    check_number(where, "high", high, 0.0)
    if low > high:
        raise UserError(f"{where}: low is {low!r}, above high, {high!r}; low <= high would be right")
