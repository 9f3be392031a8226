"""Which shape the rows of a data set have: by the names of their columns, one shape for a whole set."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lrm_align.data import columns, listed
from lrm_align.data.columns import Row
from lrm_align.data.conversation import Message
from lrm_align.errors import UserError
from lrm_align.untrusted import shown

AUTO = "auto"


class Shape(NamedTuple):
    """A shape.

    Attributes:
      needs: columns that tell it from others.
      read: (row, place) -> messages.
    """

    needs: frozenset[str]
    read: Callable[[Row, str], tuple[Message, ...]]


SHAPES: Mapping[str, Shape] = {
    "messages": Shape(frozenset({"messages"}), listed.messages),
    "sharegpt": Shape(frozenset({"conversations"}), listed.sharegpt),
    "prompt_completion": Shape(frozenset({"prompt", "completion"}), listed.prompt_completion),
    "alpaca": Shape(frozenset({"instruction", "output"}), columns.alpaca),
    "star1": Shape(frozenset({"question", "response"}), columns.star1),
    "safechain": Shape(frozenset({"instruction", "response"}), columns.safechain),
}
FORMATS = (AUTO, *SHAPES)


def fitting(row: Row) -> list[str]:
    """The shapes that a row has the columns of.

    >>> fitting({"instruction": "Add.", "input": "1 2", "output": "3"})
    ['alpaca']
    """
    there = {name for name, value in row.items() if value is not None}
    return [name for name, shape in SHAPES.items() if shape.needs <= there]


def shape_of(rows: Sequence[Row], path: str, wanted: str = AUTO) -> str:
    """The one shape of all rows.

    Args:
      rows: at least one.
      path: of the file, for messages.
      wanted: one of `FORMATS`.

    Raises:
      UserError: no shape, several in one row, or another one further down; of the row, with the columns it has.
    """
    first = fitting(rows[0])
    if wanted == AUTO and len(first) != 1:
        has = ", ".join(map(shown, rows[0]))[:200]
        found = f"the columns of {' and of '.join(first)}" if first else "columns of no known shape"
        raise UserError(
            f"data: {path}, row 1 has {found}: {has}; name the shape in config.data.format ({', '.join(SHAPES)}), or "
            "which column stands for which in config.data.columns"
        )
    name = first[0] if wanted == AUTO else wanted
    for number, row in enumerate(rows, start=1):
        there = {column for column, value in row.items() if value is not None}
        missing = sorted(SHAPES[name].needs - there)
        if not missing:
            continue
        other = fitting(row)
        if other and number > 1:
            raise UserError(
                f"data: {path} has two shapes: row 1 is {name}, row {number} is {' or '.join(other)}; "
                "write them to two files"
            )
        raise UserError(
            f"data: {path}, row {number} has nothing in column {', '.join(missing)}, which {name} needs; it has "
            f"{', '.join(map(shown, row))[:200] or 'none'}"
        )
    return name
