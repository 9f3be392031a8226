"""Known answers out of the columns of published files; one that cannot be read ends in a line that names its row."""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.errors import UserError
from lrm_align.scoring import math_final
from lrm_align.scoring.math_answers import check_gold
from lrm_align.untrusted import json_type

LETTERS = "ABCDEFGHIJ"
_BOX = re.compile(r"\\(?:boxed|fbox)\b")
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


def stated_answer(value: Any, row: Mapping[str, Any], place: str) -> str:
    r"""What a solution states, in whatever form: behind GSM8K's `####`, in a box, or the whole cell.

    "$70,000" stays as it is: `scoring.math_answers` takes it for 70000.

    >>> [stated_answer(text, {}, "row 1") for text in ("3 + 4 = 7\n#### 7", r"So it is $\boxed{\frac12}$.", 12)]
    ['7', '\\frac12', '12']

    Raises:
      UserError: there is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{place}: the answer is {json_type(value)}; expected text or a number")
    text = str(value)
    if "####" in text:
        return gsm8k_gold(text, {}, place)
    if _BOX.search(text) and (found := math_final.final_answer(text)):
        return check_gold(found[0], place)
    return check_gold(text, place)


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
