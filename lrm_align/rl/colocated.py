"""One program: the groups of a step are sampled with the step's own parameters, on the mesh that trains them."""

from collections.abc import Callable
from typing import Any

from lrm_align.rl.collect import Collector
from lrm_align.rl.group import Accept, Taken, never
from lrm_align.rl.task import REFILL


class Colocated:
    """A source that samples when it is asked.

    Step s takes the tickets s·G … s·G + G - 1. Where groups are not accepted, further tickets, which belong to the step
    alone, replace them; so that what a step trains on is a pure function of the step, its parameters and the seed.

    Args:
      collector: samples and grades.
      groups: G, the groups of a step.
      max_refills: further tickets that a step may ask.
    """

    def __init__(self, collector: Collector, groups: int, max_refills: int = 0):
        self._collector, self._groups, self._max_refills = collector, groups, max_refills

    def take(self, step: int, params: Any, accept: Accept, stop: Callable[[], bool] = never) -> Taken:
        """The groups of a step; fewer than G where the refills did not suffice."""
        wanted = list(range(step * self._groups, (step + 1) * self._groups))
        more = list(range(REFILL + step * self._max_refills, REFILL + (step + 1) * self._max_refills))
        groups, dropped = [], []
        grading_s = 0.0
        while wanted:
            found = self._collector.collect(wanted, params, step)
            groups += [group for group in found if accept(group)]
            dropped += [group for group in found if not accept(group)]
            grading_s += self._collector.seconds.grading
            missing = self._groups - len(groups)
            wanted, more = more[:missing], more[missing:]
        return Taken(groups, dropped, grading_s)

    def close(self) -> None:
        """Nobody waits for anything."""
