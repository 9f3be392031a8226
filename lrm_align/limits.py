"""Counts that users give: whole numbers in a range, and limits, of which 0 means all, everywhere."""

import operator
from collections.abc import Sequence
from typing import Any, TypeVar

from lrm_align.errors import UserError

Item = TypeVar("Item")


def count(value: Any, where: str, least: int = 0) -> int:
    """A whole number of at least `least`.

    >>> count(3, "config.seed")
    3
    >>> count(-1, "config.seed")
    Traceback (most recent call last):
    ...
    lrm_align.errors.UserError: config.seed is -1; it must be a whole number of at least 0

    Args:
      value: what was given.
      where: its name in the message.
      least: the smallest that is right.

    Raises:
      UserError: anything else, truth values and decimal fractions among it.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise UserError(f"{where} is {str(value)[:40]}; it must be a whole number of at least {least}")
    return number


def first(items: Sequence[Item], limit: int | None, where: str = "limit") -> list[Item]:
    """The first so many items; all of them where the limit is 0 or None.

    >>> first([1, 2, 3], 2), first([1, 2, 3], 0), first([1, 2, 3], None)
    ([1, 2], [1, 2, 3], [1, 2, 3])

    Raises:
      UserError: the limit is negative or no whole number.
    """
    most = 0 if limit is None else count(limit, where)
    return list(items[: most or None])
