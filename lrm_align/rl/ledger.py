"""Which tickets are settled, and how far samplers must go: the trainer's book, as pure functions."""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple


class Ledger(NamedTuple):
    """The tickets that are settled: used, dropped, refused as stale or damaged, or given up.

    Attributes:
      first: all tickets below it are settled.
      beyond: the settled ones from there on, without `first` itself.
    """

    first: int = 0
    beyond: frozenset[int] = frozenset()

    def settled(self, ticket: int) -> bool:
        """Whether nobody waits for a ticket."""
        return ticket < self.first or ticket in self.beyond

    def settle(self, tickets: Iterable[int]) -> "Ledger":
        """The ledger with more tickets settled.

        >>> Ledger(2, frozenset({4})).settle([2, 3, 7])
        Ledger(first=5, beyond=frozenset({7}))
        """
        beyond = {*self.beyond, *(ticket for ticket in tickets if ticket >= self.first)}
        first = self.first
        while first in beyond:
            beyond.remove(first)
            first += 1
        return Ledger(first, frozenset(beyond))

    def lost(self, before: int, expected: Callable[[int], bool]) -> list[int]:
        """The open tickets below `before` that are not to be expected any more.

        >>> Ledger(2, frozenset({4})).lost(6, expected=lambda ticket: ticket == 3)
        [2, 5]
        """
        return [ticket for ticket in range(self.first, before) if not self.settled(ticket) and not expected(ticket)]


def until(ledger: Ledger, wanted: int, expected: Callable[[int], bool]) -> int:
    """How far samplers must go: the least U below which `wanted` open tickets are there or to be expected.

    Args:
      ledger: what is settled.
      wanted: open tickets that the trainer needs.
      expected: whether an open ticket is there or will come; false for those of a sampler that shows no life. At least
        one of any number of consecutive tickets as there are samplers must be.

    >>> until(Ledger(2, frozenset({4})), 3, expected=lambda ticket: True)
    6
    >>> until(Ledger(0), 3, expected=lambda ticket: ticket % 2 == 0)
    5
    """
    ticket, found = ledger.first, 0
    while found < wanted:
        found += not ledger.settled(ticket) and expected(ticket)
        ticket += 1
    return ticket


def share(index: int, count: int, tickets: Iterable[int], done: Collection[int]) -> list[int]:
    """The tickets that sampler `index` of `count` has still to sample.

    >>> share(1, 3, range(4, 12), done={7})
    [4, 10]
    """
    return [ticket for ticket in tickets if ticket % count == index and ticket not in done]
