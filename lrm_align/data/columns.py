"""Shapes with a column for what is asked and one for what is answered."""

from collections.abc import Mapping
from typing import Any

from lrm_align.chat.thinking import THINK_OPEN
from lrm_align.data.conversation import Message
from lrm_align.errors import UserError
from lrm_align.untrusted import json_type

Row = Mapping[str, Any]


def turns(asked: str, answered: str, system: str = "") -> tuple[Message, ...]:
    """The messages of one question and its answer."""
    first = ({"role": "system", "content": system},) if system else ()
    return (*first, {"role": "user", "content": asked}, {"role": "assistant", "content": answered})


def alpaca(row: Row, place: str) -> tuple[Message, ...]:
    """Alpaca's instruction, input and output; the input stands below the instruction.

    Stanford's preamble ("Below is an instruction …") is for models without a chat template, and is left out.
    """
    instruction, more = text(row, "instruction", place), text(row, "input", place, optional=True)
    asked = f"{instruction}\n\n{more}" if more.strip() else instruction
    return turns(asked, text(row, "output", place), text(row, "system", place, optional=True))


def star1(row: Row, place: str) -> tuple[Message, ...]:
    """STAR-1's question and response, the thought in its tags in front of the answer (arXiv 2504.01903)."""
    return turns(text(row, "question", place), text(row, "response", place))


def safechain(row: Row, place: str) -> tuple[Message, ...]:
    """SafeChain's instruction and response (arXiv 2502.12025), which begins inside the thought, without its tag."""
    answered = text(row, "response", place)
    inside = answered.strip() and not answered.lstrip().startswith(THINK_OPEN)
    return turns(text(row, "instruction", place), f"{THINK_OPEN}\n{answered}" if inside else answered)


def text(row: Row, column: str, place: str, optional: bool = False) -> str:
    """The text of a cell.

    Raises:
      UserError: it holds something else.
    """
    value = row.get(column)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise UserError(f"data: {place}: column {column} holds {json_type(value)}; expected text")
    return value
