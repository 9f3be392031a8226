"""How long a safety analysis is for how complex a request: one table for who writes it and who judges it.

RAPO (arXiv 2602.04224): a request has level 1 (direct), 2 (a wrapper, a role) or 3 and above (obfuscated, nested, many
steps), and safe reasoning must be as long as its level needs. The authors' code writes by one table and judges by
another, so that an analysis of four sentences, written as asked for level 2, is judged too short.
"""

import dataclasses
from collections.abc import Sequence

from lrm_align.errors import UserError

# Sentences from … to …, 0 for no end, of levels 1, 2, 3: what the authors' judge asks for, and what its generator does.
JUDGED = ((2, 4), (5, 8), (9, 0))
WRITTEN = ((2, 3), (4, 6), (8, 0))


@dataclasses.dataclass(frozen=True)
class Length:
    """A number of sentences.

    Attributes:
      least: at least so many.
      most: at most so many; None for any number.
    """

    least: int
    most: int | None = None

    def __contains__(self, sentences: int) -> bool:
        return self.least <= sentences and (self.most is None or sentences <= self.most)

    def __str__(self) -> str:
        """As a prompt says it.

        >>> str(Length(2, 4)), str(Length(9)), str(Length(1, 1))
        ('2-4 sentences', 'at least 9 sentences', '1 sentence')
        """
        if self.most is None:
            return f"at least {self.least} sentences"
        count = str(self.least) if self.least == self.most else f"{self.least}-{self.most}"
        return f"{count} sentence{'' if count == '1' else 's'}"


@dataclasses.dataclass(frozen=True)
class Levels:
    """The lengths of all levels.

    Attributes:
      judged: of level 1, 2, …: what a judge asks for.
      written: what a generator is told; the same table unless the authors' disagreement is switched on.
    """

    judged: tuple[Length, ...]
    written: tuple[Length, ...]

    @property
    def highest(self) -> int:
        """The last level; what is more complex counts as this one."""
        return len(self.judged)

    def to_judge(self, level: int) -> Length:
        """The length that a judge asks for at a level, from 1 up."""
        return self.judged[self._place(level)]

    def to_write(self, level: int) -> Length:
        """The length that a generator is told at a level, from 1 up."""
        return self.written[self._place(level)]

    def _place(self, level: int) -> int:
        if level < 1:
            raise ValueError(f"levels begin at 1, got {level}")
        return min(level, self.highest) - 1


def table(lengths: Sequence[Sequence[int]] = JUDGED, written: Sequence[Sequence[int]] | None = None) -> Levels:
    """The levels of a config.

    >>> levels = table()
    >>> str(levels.to_write(2)), str(levels.to_judge(2)), 8 in levels.to_judge(3), 12 in levels.to_judge(7)
    ('5-8 sentences', '5-8 sentences', False, True)
    >>> str(table(JUDGED, WRITTEN).to_write(2))
    '4-6 sentences'

    Args:
      lengths: (least, most) of level 1, 2, … in sentences; most is 0 for no end, in the last level alone.
      written: another table for the generator; None, the default, for the same. (JUDGED, WRITTEN) is what the authors'
        code does.

    Raises:
      UserError: fewer than two levels, a table of another size, or lengths that do not ascend.
    """
    judged = _lengths(lengths, "lengths")
    told = judged if written is None else _lengths(written, "written")
    if len(told) != len(judged):
        raise UserError(f"levels: lengths has {len(judged)} levels, written {len(told)}; they must have as many")
    return Levels(judged, told)


def _lengths(rows: Sequence[Sequence[int]], name: str) -> tuple[Length, ...]:
    found: list[Length] = []
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or any(type(value) is not int for value in row):
            raise UserError(f"levels: {name} has {row!r} for level {number}; wanted (least, most) in sentences")
        least, most = row
        last = number == len(rows)
        if least < 1 or (most < least and (most or not last)):
            raise UserError(
                f"levels: {name} has {least} to {most} for level {number}; wanted 1 or more, and an end that is not "
                f"below it (0, no end, is for the last level)"
            )
        if found and least <= (found[-1].most or 0):
            raise UserError(
                f"levels: {name} has {least} to {most} for level {number}, which is not longer than level {number - 1}"
            )
        found.append(Length(least, most or None))
    if len(found) < 2:
        raise UserError(f"levels: {name} has {len(found)} levels; wanted at least 2, else nothing depends on the risk")
    return tuple(found)
