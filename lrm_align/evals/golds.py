"""Known answers out of the columns of published files; one that cannot be read ends in a line that names its row."""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.errors import UserError
from lrm_align.scoring.math_answers import check_gold

LETTERS = "ABCDEFGHIJ"
_GSM8K = re.compile(r"####\s*(-?[\d.,]*\d)\s*$")


def gsm8k_gold(value: Any, row: Mapping[str, Any], place: str) -> str:
    """The number after the last `####`, without commas.

    >>> gsm8k_gold("3 + 4 = <<3+4=7>>7\\n#### 1,007", {}, "row 1")
    '1007'

    Raises:
      UserError: there is none.
    """
    found = _GSM8K.search(str(value).strip())
    if not found:
        raise UserError(
            f"{place}: the gold answer {str(value)[-60:]!r} cannot be read: expected it to end in '#### 42'"
        )
    return found[1].replace(",", "")


def math_gold(value: Any, row: Mapping[str, Any], place: str) -> str:
    """LaTeX with balanced braces, as it stands.

    Raises:
      UserError: it is none.
    """
    return check_gold("" if value is None else str(value), place)


def integer_gold(value: Any, row: Mapping[str, Any], place: str) -> str:
    """A whole number without leading zeros.

    >>> integer_gold("033", {}, "row 1")
    '33'

    Raises:
      UserError: it is none.
    """
    text = str(value).strip()
    if not re.fullmatch(r"\d{1,6}", text):
        raise UserError(f"{place}: the gold answer {text[:60]!r} cannot be read: expected a whole number such as 33")
    return str(int(text))


def shuffled(choices: Sequence[str], name: str) -> list[str]:
    """The choices in an order that the question alone decides, so that every run and every model sees the same one."""
    order = list(choices)
    random.Random(hashlib.sha256(name.encode()).digest()).shuffle(order)
    return order


def choice_letter(value: Any, row: Mapping[str, Any], place: str) -> str:
    """The letter of the right choice; its place is in the row's `shuffled` choices, under "choices".

    Raises:
      UserError: the right choice is empty, or another one says the same.
    """
    choices = row["choices"]
    if not str(value or "").strip() or choices.count(value) != 1:
        raise UserError(f"{place}: the right choice {str(value)[:60]!r} is empty or stands there twice")
    return LETTERS[choices.index(value)]
