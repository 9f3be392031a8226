"""A trainer and samplers without a model, for tests of what they share: groups are a function of ticket and policy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from lrm_align.provenance import Source
from lrm_align.rl import group_shards, orders, policies
from lrm_align.rl.follow import Sampler
from lrm_align.rl.group import TraceGroup, group_id
from lrm_align.rl.separate import Separate
from lrm_align.traces import Trace

ABOUT = {"model": "m0", "tokenizer": "t0", "tuning": "l0", "recipe": "r0"}
SAMPLES = 2


def params(policy: int) -> dict[str, Any]:
    """Parameters that tell their number."""
    return {"layers": {"q": np.full((2, 3), policy, np.float32)}, "embed": np.arange(4, dtype=np.float32) + policy}


LIKE = params(0)


def group(ticket: int, policy: int) -> TraceGroup:
    """What any sampler makes of a ticket."""
    traces = tuple(
        Trace(
            [ticket % 50, 1],
            [policy, sample],
            [Source.SAMPLED] * 2,
            [-0.5, -1.0],
            policy=policy,
            prompt_id=f"p{ticket % 7}@{ticket}",
            group_id=group_id(ticket),
            sample=sample,
            scores={"judge": {"value": float(ticket % 3), "parts": {}, "reason": ""}},
        )
        for sample in range(SAMPLES)
    )
    return TraceGroup(ticket, policy, traces)


class Collector:
    """Makes groups at once, and remembers for which (ticket, policy); refuses parameters of another number."""

    def __init__(self, before: Callable[[int], None] = lambda ticket: None):
        self.asked: list[tuple[int, int]] = []
        self._before = before

    def collect(self, tickets: Sequence[int], params: Any, policy: int) -> list[TraceGroup]:
        """The groups of tickets."""
        assert (params["layers"]["q"] == policy).all()
        found = []
        for ticket in tickets:
            self._before(ticket)
            self.asked.append((ticket, policy))
            found.append(group(ticket, policy))
        return found


def sampler(directory: epath.PathLike, index: int = 0, count: int = 1, **options: Any) -> Sampler:
    """A sampler of the runs of `trainer`."""
    options = {"collector": Collector(), "about": ABOUT, "chunk": 2, "log": lambda line: None, **options}
    return Sampler(directory, like=LIKE, attach=lambda weights: weights, index=index, count=count, **options)


class Clock:
    """Time that passes when somebody sleeps; samplers work meanwhile.

    Args:
      workers: called on each sleep, each until it has nothing to do any more.
      most: sleeps, after which the test has failed.
    """

    def __init__(self, *workers: Callable[[], Any], most: int = 2000):
        self.workers, self.now, self.most = list(workers), 0.0, most

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += max(seconds, 0.05)
        self.most -= 1
        assert self.most > 0, "nobody gets anything done"
        for work in self.workers:
            while work():
                pass


def trainer(directory: epath.PathLike, clock: Clock | None = None, **options: Any) -> Separate:
    """A trainer's source of 4 groups a step; without a clock it waits in real time."""
    numbers = {"groups": 4, "samples": SAMPLES, "steps": 100, "max_staleness": 0, "samplers": 1, "about": ABOUT}
    numbers |= {"log": lambda line: None, **({"clock": clock, "sleep": clock.sleep} if clock else {}), **options}
    return Separate(directory, **numbers)


def accept(group: TraceGroup) -> bool:
    """Everything."""
    return True


def tickets(groups: Sequence[TraceGroup]) -> list[int]:
    """Their tickets."""
    return [group.ticket for group in groups]


ORDER = orders.Order(policy=0, first=0, until=8, samplers=1, about=ABOUT)


def give(shared, **changes):
    """Publishes a policy and an order of it."""
    order = ORDER._replace(**changes)
    policies.publish(shared / "policies", order.policy, params(order.policy), ABOUT)
    orders.give(shared / "orders", order)


def finish(sampler):
    """Works until there is nothing to do."""
    while sampler.turn():
        pass


def written(shared, until=100):
    """The tickets whose groups are there."""
    return sorted(group_shards.finished(shared / "groups", 0, until))


def tickets_of(sampler):
    """What a sampler was asked for."""
    return [ticket for ticket, _ in sampler._collector.asked]
