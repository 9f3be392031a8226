"""Training and sampling as jobs that share only a bucket: the trainer's side.

    DIRECTORY/trainers/   one object a start of the trainer; the newest start is the trainer
              policies/   numbered weights (`rl.policies`)
              orders/     which policy, and how far to sample (`rl.orders`)
              groups/     whole groups with their scores, a shard each, named by their tickets (`rl.group_shards`)
              steps/      which tickets each step uses, written before it does
              samplers/   signs of life (`rl.beats`)

Sampler i of n samples the tickets k with k mod n = i (`rl.follow`): nobody claims or leases anything. Whatever is
killed when, and started again: a group that is whole stays, and is used once; a step that has its record is done again
with the same groups. Groups of older policies are as off-policy as their age; the objective corrects them by truncated
importance weights, `correction=("token_truncate", …)`, from the log-probabilities that the sampler recorded.
"""

import dataclasses
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etils import epath

from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.rl import beats, group_shards, ledger, orders, policies, sealed
from lrm_align.rl.group import Accept, StoppedError, Taken, TraceGroup, never
from lrm_align.rl.ledger import Ledger
from lrm_align.traces import Shard

STEP, TRAINER = "lrm_align.step/1", "lrm_align.trainer/1"
REFUSED = ("stale", "damaged", "given_up")  # why tickets are settled without being looked at
WARN_AFTER = 30.0  # seconds of waiting until the first warning; each further one takes twice as long
GIVE_UP_AFTER = 8  # windows of tickets behind the newest used one, from where on a silent sampler's tickets are settled

Stop = Callable[[], bool]


@dataclasses.dataclass
class _Draft:
    """What becomes of the tickets of a step while it waits.

    Attributes:
      step: its number.
      book: what is settled.
      accepted: groups that carry credit, read once.
      dropped: groups that carry none.
      refused: tickets by the reason for it.
    """

    step: int
    book: Ledger
    accepted: dict[int, TraceGroup] = dataclasses.field(default_factory=dict)
    dropped: dict[int, TraceGroup] = dataclasses.field(default_factory=dict)
    refused: dict[str, list[int]] = dataclasses.field(default_factory=lambda: {reason: [] for reason in REFUSED})

    def refuse(self, reason: str, tickets: list[int]) -> None:
        self.refused[reason] += tickets
        self.book = self.book.settle(tickets)


class Separate:
    """A source whose groups other jobs sample.

    Before a step, its policy and an order are published. Of the tickets whose groups are there, the lowest are taken;
    groups staler than the limit are refused, and others ordered instead.

    Args:
      directory: what the jobs share; anything that `etils.epath` opens.
      groups: G, the groups of a step.
      samples: N of a group.
      steps: of the run; nothing is ordered beyond the last.
      max_staleness: policies that a group may be older than the one it trains; 0 is on-policy, and samplers idle while
        the trainer updates.
      samplers: how many share the tickets.
      about: {part: digest} of model, tokenizer, tuning and recipe; samplers with others are refused.
      max_refills: further tickets that a step may use up where groups are not accepted.
      leader: False on all hosts of the trainer but the first: they take what the first one records.
      patience: seconds without a sign of life, after which others get a sampler's tickets; `beats.PATIENCE` by default.
      clock, sleep: of seconds.
      log: takes warnings.

    Raises:
      UserError: numbers out of their ranges; the directory belongs to another model, tokenizer or recipe.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        groups: int,
        samples: int,
        steps: int,
        max_staleness: int,
        samplers: int,
        about: Mapping[str, str],
        max_refills: int = 0,
        leader: bool = True,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        log: Callable[[str], None] = print,
    ):
        check(max_staleness, samplers)
        self._root = epath.Path(directory)
        self._groups, self._samples, self._steps = groups, samples, steps
        self._staleness, self._samplers, self._max_refills = max_staleness, samplers, max_refills
        self._about, self._recipe_hash = dict(about), digest(dict(about))
        self._leader, self._clock, self._sleep, self._log = leader, clock, sleep, log
        self._lives = beats.Lives(self._root / "samplers", samplers, patience or beats.PATIENCE, clock)
        self._shards: dict[int, Shard] = {}
        self._given: orders.Order | None = None
        if leader:
            self._start = 1 + max(sealed.numbers(self._root / "trainers"), default=-1)
            self._given = orders.newest(self._root / "orders")
            if self._given is not None:
                policies.check_about(self._root / "orders", self._given.about, self._about)
            self._claim()

    def take(self, step: int, params: Any, accept: Accept, stop: Stop = never) -> Taken:
        """The groups of a step; the same ones if the step is done again after a kill.

        Raises:
          StoppedError: `stop` became true while it waited.
          UserError: another trainer has taken over; a group that the step's record names is damaged or missing.
        """
        self._check_alone()
        published = began = self._clock()
        recorded = sealed.read(self._step_path(step), STEP)
        if recorded is None:
            weights = policies.trainable(params)
            policies.publish(self._root / "policies", step, weights, self._about, writes=self._leader, log=self._log)
            published = self._clock()
            taken, refused = self._collect(step, accept, stop) if self._leader else self._again(step, self._await(step))
        else:
            taken, refused = self._again(step, recorded)
        facts = {"publish_s": published - began, "wait_s": self._clock() - published, **refused}
        return taken._replace(facts={f"separate/{name}": float(value) for name, value in facts.items()})

    def close(self) -> None:
        """Sends the samplers home; for the end of the last step."""
        given = self._given
        if self._leader and not (given is not None and given.stop):
            policy, until = (given.policy, given.until) if given is not None else (0, 0)
            self._give(orders.Order(policy, until, until, self._samplers, self._about, stop=True))

    def _again(self, step: int, recorded: Mapping[str, Any]) -> tuple[Taken, dict[str, int]]:
        """What the record of a step says."""
        used, dropped = ([self._group(step, ticket) for ticket in recorded[name]] for name in ("used", "dropped"))
        return Taken(used, dropped), {reason: len(recorded[reason]) for reason in REFUSED}

    def _collect(self, step: int, accept: Accept, stop: Stop) -> tuple[Taken, dict[str, int]]:
        """Waits until the groups of a step are there, and records which they are."""
        draft = _Draft(step, self._book(step))
        waits, began, warn_after = pauses(), self._clock(), WARN_AFTER
        while True:
            self._find(draft)
            used = self._choose(draft, accept)
            missing = self._quota(draft) - len(used)
            self._order(draft)
            if missing <= 0:
                break
            if stop():
                raise StoppedError(f"step {step} waited for {missing} of {self._quota(draft)} groups")
            seconds = self._clock() - began
            if seconds > warn_after:
                warn_after *= 2
                why = f"{missing} of {self._quota(draft)} groups are missing; {self._lives.describe()}"
                self._log(f"warning: step {step} has waited for {seconds:.0f} s: {why}")
            self._sleep(next(waits))
        draft.book = draft.book.settle(group.ticket for group in used)
        self._give_up(draft, max((group.ticket for group in used), default=0))
        self._record(draft, [group.ticket for group in used])
        dropped = [draft.dropped[ticket] for ticket in sorted(draft.dropped)]
        return Taken(used, dropped), {reason: len(tickets) for reason, tickets in draft.refused.items()}

    def _quota(self, draft: _Draft) -> int:
        """Groups that a step takes at most, after what it has dropped."""
        return min(self._groups, self._groups + self._max_refills - len(draft.dropped))

    def _find(self, draft: _Draft) -> None:
        """Looks for new groups, and settles those that are too stale or damaged."""
        until = self._given.until if self._given is not None else 0
        there = set(group_shards.tickets(self._root / "groups", draft.book.first, until))
        for ticket in sorted(there - self._shards.keys()):
            if draft.book.settled(ticket):
                continue
            try:
                shard = group_shards.find(self._root / "groups", ticket)
                if shard is not None:
                    group_shards.check(shard, self._samples, self._recipe_hash)
                    self._shards[ticket] = shard
            except UserError as error:
                self._replace(draft, ticket, error)
        oldest = draft.step - self._staleness
        stale = [k for k, shard in self._shards.items() if shard.manifest.policy < oldest]
        draft.refuse("stale", [ticket for ticket in sorted(stale) if not draft.book.settled(ticket)])
        self._forget(draft)

    def _choose(self, draft: _Draft, accept: Accept) -> list[TraceGroup]:
        """The accepted groups of the lowest tickets, as many as the step takes; what is not accepted is settled."""
        used: list[TraceGroup] = []
        for ticket, shard in sorted(self._shards.items()):
            if len(used) >= self._quota(draft):
                break
            if ticket not in draft.accepted:
                try:
                    group = group_shards.read(shard, ticket)
                except UserError as error:
                    self._replace(draft, ticket, error)
                    continue
                if not accept(group):
                    draft.dropped[ticket] = group
                    draft.book = draft.book.settle([ticket])
                    continue
                draft.accepted[ticket] = group
            used.append(draft.accepted[ticket])
        self._forget(draft)
        return used

    def _replace(self, draft: _Draft, ticket: int, error: UserError) -> None:
        self._log(f"warning: {error}; another group replaces it")
        draft.refuse("damaged", [ticket])

    def _forget(self, draft: _Draft) -> None:
        """Keeps the shards of open tickets alone."""
        self._shards = {ticket: shard for ticket, shard in self._shards.items() if not draft.book.settled(ticket)}

    def _order(self, draft: _Draft) -> None:
        """Orders as much as this step and the next few need, unless that is ordered already."""
        ahead = self._groups * min(self._staleness, self._steps - 1 - draft.step)
        until = ledger.until(draft.book, self._quota(draft) + ahead, self._expected())
        given = self._given
        if given is not None:
            until = max(until, given.until)
            if (given.policy, given.until, given.samplers, given.stop) == (draft.step, until, self._samplers, False):
                return
        self._give(orders.Order(draft.step, draft.book.first, until, self._samplers, self._about))

    def _give(self, order: orders.Order) -> None:
        self._check_alone()
        orders.give(self._root / "orders", order)
        self._given = order

    def _give_up(self, draft: _Draft, newest: int) -> None:
        """Settles what silent samplers left behind so long ago that nobody shall wait for it."""
        window = self._groups * (1 + self._staleness)
        draft.refuse("given_up", draft.book.lost(newest - GIVE_UP_AFTER * window, self._expected()))

    def _expected(self) -> Callable[[int], bool]:
        """Whether the group of a ticket is there, or its sampler lives."""
        living = self._lives.living()
        return lambda ticket: ticket in self._shards or ticket % self._samplers in living

    def _book(self, step: int) -> Ledger:
        """What was settled before a step."""
        if step == 0:
            return Ledger()
        last = sealed.read(self._step_path(step - 1), STEP)
        if last is None:
            raise UserError(f"{self._step_path(step - 1)}: missing; without it nobody knows which groups are used up")
        return Ledger(last["first"], frozenset(last["beyond"]))

    def _record(self, draft: _Draft, used: list[int]) -> None:
        fields = {
            "step": draft.step,
            "used": used,
            "dropped": sorted(draft.dropped),
            **{reason: sorted(tickets) for reason, tickets in draft.refused.items()},
            "first": draft.book.first,
            "beyond": sorted(draft.book.beyond),
            "start": self._start,
        }
        self._check_alone()
        try:
            sealed.create(self._step_path(draft.step), STEP, fields)
        except sealed.TakenError:
            raise UserError(f"{self._step_path(draft.step)}: {_TWO_TRAINERS}") from None

    def _group(self, step: int, ticket: int) -> TraceGroup:
        """A group that a record names."""
        shard = group_shards.find(self._root / "groups", ticket)
        if shard is None:
            raise UserError(
                f"{self._step_path(step)}: names ticket {ticket}, whose group is missing in {self._root / 'groups'}"
            )
        group_shards.check(shard, self._samples, self._recipe_hash)
        return group_shards.read(shard, ticket)

    def _await(self, step: int) -> Mapping[str, Any]:
        """The record of a step, as soon as the first host has written it."""
        waits = pauses()
        while (recorded := sealed.read(self._step_path(step), STEP)) is None:
            self._sleep(next(waits))
        return recorded

    def _claim(self) -> None:
        """Says that this process is the trainer from now on."""
        token = {"process": f"{os.getpid()} on {socket.gethostname()}", "at": time.time(), "token": uuid.uuid4().hex}
        try:
            sealed.create(self._root / "trainers" / sealed.name(self._start), TRAINER, token)
        except sealed.TakenError:
            raise UserError(f"{self._root}: {_TWO_TRAINERS}") from None

    def _check_alone(self) -> None:
        """Stops where another trainer was started later: on a store without locks the newest one goes on."""
        if not self._leader:
            return
        newest = max(sealed.numbers(self._root / "trainers"), default=-1)
        if newest > self._start:
            other = sealed.read(self._root / "trainers" / sealed.name(newest), TRAINER) or {}
            raise UserError(
                f"{self._root}: another trainer (process {other.get('process', 'unknown')}) was started here later and "
                "goes on; this one ends"
            )

    def _step_path(self, step: int) -> epath.Path:
        return self._root / "steps" / sealed.name(step)


_TWO_TRAINERS = "another trainer works here at the same time; end one of them, or take another workdir"


def check(max_staleness: int, samplers: int) -> None:
    """Refuses numbers out of their ranges.

    Raises:
      UserError: naming the number.
    """
    for name, value, least in (("max_staleness", max_staleness, 0), ("sampler_count", samplers, 1)):
        if value < least:
            raise UserError(f"config.rl.{name} is {value}; it must be at least {least}")


def pauses(first: float = 0.05, most: float = 1.0) -> Iterator[float]:
    """Seconds to wait between looks, without end, each longer than the last.

    >>> [round(seconds, 2) for seconds, _ in zip(pauses(), range(10))]
    [0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8, 1.0]
    """
    seconds = first
    while True:
        yield seconds
        seconds = min(seconds * 2**0.5, most)
