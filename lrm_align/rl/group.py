"""A group: all samples of one ticket by one policy, with their scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from lrm_align.traces import Trace


class TraceGroup(NamedTuple):
    """The samples of a ticket.

    Attributes:
      ticket: which asked the prompt.
      policy: number of the policy that sampled.
      traces: in the order of their sample numbers, with the scores of every grader in `scores`; their `group_id` is
        `group_id(ticket)`.
    """

    ticket: int
    policy: int
    traces: tuple[Trace, ...]


def group_id(ticket: int) -> str:
    """How the traces of a ticket name their group.

    >>> group_id(12)
    'ticket-000000000012'
    """
    return f"ticket-{ticket:012d}"


def ticket_of(trace: Trace) -> int:
    """The ticket of a trace of a group."""
    return int(trace.group_id.removeprefix("ticket-"))


def grouped(traces: Iterable[Trace], samples: int) -> list[TraceGroup]:
    """The whole groups among traces, by ticket; groups that lack a sample are left out."""
    found: dict[int, list[Trace]] = {}
    for trace in traces:
        found.setdefault(ticket_of(trace), []).append(trace)
    return [
        TraceGroup(ticket, group[0].policy, tuple(sorted(group, key=lambda trace: trace.sample)))
        for ticket, group in sorted(found.items())
        if len(group) == samples
    ]


Accept = Callable[[TraceGroup], bool]


class Taken(NamedTuple):
    """What a source gives for a step.

    Attributes:
      groups: to train on.
      dropped: whole groups that were sampled for it and not accepted.
      grading_s: seconds that this program spent on grading.
      facts: more about it, for the metrics.
    """

    groups: Sequence[TraceGroup]
    dropped: Sequence[TraceGroup]
    grading_s: float = 0.0
    facts: Mapping[str, float] = {}


class StoppedError(Exception):
    """A source gave up waiting, since the program was asked to end."""


def never() -> bool:
    """Nobody asks the program to end."""
    return False


class Source(Protocol):
    """Where the groups of a step come from: this program's own engine, or a bucket that others fill."""

    def take(self, step: int, params: object, accept: Accept, stop: Callable[[], bool] = never) -> Taken:
        """The groups of a step; the same ones if the step is done again after a kill.

        Args:
          step: number of the step, which is the number of the policy that it starts from.
          params: that policy's parameters, adapters attached.
          accept: whether a group carries credit; others are replaced as far as the settings allow.
          stop: asked while it waits for others, whether the program shall end.

        Raises:
          StoppedError: it shall; the step can be done later.
        """
        ...

    def close(self) -> None:
        """For the end of the last step."""
        ...
