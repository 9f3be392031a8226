"""Training and sampling as jobs that share only a bucket: a sampler's side."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
from etils import epath

from lrm_align import stopping
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.rl import beats, group_shards, ledger, orders, policies
from lrm_align.rl.group import TraceGroup
from lrm_align.rl.locks import alone
from lrm_align.rl.separate import pauses

LINE_EVERY = 15.0  # seconds between progress lines


class Collects(Protocol):
    """What a sampler needs of `rl.collect.Collector`."""

    def collect(self, tickets: Sequence[int], params: Any, policy: int) -> Sequence[TraceGroup]:
        """The groups of tickets, sampled with the parameters of a policy, with scores."""
        ...


class Sampler:
    """Samples its share of the tickets that are ordered, and writes each group whole.

    Killed at any moment and started again it goes on with what is missing; at most the groups of one `collect` are
    sampled anew.

    Args:
      directory: what the jobs share, see `rl.separate`.
      collector: samples and grades.
      like: shapes and dtypes of what trains.
      attach: weights of a policy, as NumPy arrays -> parameters for the collector.
      about: {part: digest} of this job's model, tokenizer, tuning and recipe.
      index, count: sampler `index` of `count` takes the tickets k with k mod count = index.
      chunk: tickets of one `collect`; as many groups as fill the engine twice are a good number.
      log: takes progress lines.

    Attributes:
      policy: number of the policy at hand.
      groups, traces, tokens: written by this process.
      seconds: spent on them.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        collector: Collects,
        like: Any,
        attach: Callable[[Any], Any],
        about: Mapping[str, str],
        index: int = 0,
        count: int = 1,
        *,
        chunk: int = 8,
        log: Callable[[str], None] = print,
    ):
        if not 0 <= index < count:
            raise UserError(f"--sampler={index}/{count}: the first number must be one of 0…{count - 1}")
        self._root = epath.Path(directory)
        self._collector, self._like, self._attach = collector, like, attach
        self._about, self._recipe_hash = dict(about), digest(dict(about))
        self._index, self._count, self._chunk, self._log = index, count, max(1, chunk), log
        self._done: set[int] = set()
        self._looked_until = 0
        self._params: Any = None
        self.policy: int | None = None
        self.groups = self.traces = self.tokens = 0
        self.seconds = 0.0

    def turn(self, tell: Callable[[str], None] = lambda state: None) -> bool | None:
        """Does what the newest order says: True after sampling, False with nothing to do, None when the run is over.

        Args:
          tell: called with what this sampler is about to do.

        Raises:
          UserError: the run is of another model, tokenizer or recipe; a damaged order or policy; another process
            samples the same share; the disk is full.
        """
        order = orders.newest(self._root / "orders")
        if order is None:
            return False
        policies.check_about(self._root, order.about, self._about)
        if order.stop:
            return None
        if order.samplers != self._count:
            raise UserError(
                f"--sampler={self._index}/{self._count}: {self._root} is sampled by config.rl.sampler_count = "
                f"{order.samplers} samplers; wanted --sampler=i/{order.samplers}"
            )
        missing = self._missing(order)
        if not missing:
            return False
        began = time.monotonic()
        tell("sampling")
        if not self._load(order.policy):
            return False
        for group in self._collector.collect(missing[: self._chunk], self._params, order.policy):
            self._write(group)
        self.seconds += time.monotonic() - began
        return True

    def _missing(self, order: orders.Order) -> list[int]:
        """This sampler's tickets whose groups are not there."""
        if order.until > self._looked_until:
            begin = max(order.first, self._looked_until)
            self._done |= group_shards.finished(self._root / "groups", begin, order.until)
            self._looked_until = order.until
        self._done = {ticket for ticket in self._done if ticket >= order.first}
        return ledger.share(self._index, self._count, range(order.first, order.until), self._done)

    def _load(self, policy: int) -> bool:
        """Reads a policy, unless it is at hand; False where it is not there, for a newer order follows then."""
        if policy == self.policy:
            return True
        self._params = self.policy = None  # two policies need not fit
        try:
            weights = policies.read(self._root / "policies", policy, self._like, self._about)
        except policies.GoneError:
            return False
        self._params, self.policy = self._attach(weights), policy
        return True

    def _write(self, group: TraceGroup) -> None:
        try:
            group_shards.write(self._root / "groups", group, self._recipe_hash)
        except UserError as error:
            if group_shards.finished(self._root / "groups", group.ticket, group.ticket + 1):
                raise UserError(
                    f"another process works as sampler {self._index}/{self._count} of {self._root}: it has just "
                    f"finished ticket {group.ticket}; end one of them"
                ) from error
            raise
        self._done.add(group.ticket)
        self.groups += 1
        self.traces += len(group.traces)
        self.tokens += sum(trace.completion_ids.size for trace in group.traces)


def follow(
    sampler: Sampler,
    directory: epath.PathLike,
    index: int = 0,
    count: int = 1,
    *,
    poll: float = 2.0,
    beat: float = beats.SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    log: Callable[[str], None] = print,
) -> int:
    """Follows the trainer's orders until the run is over; returns the groups written.

    Args:
      sampler: does what is ordered.
      directory: what the jobs share.
      index, count: of the sampler.
      poll: seconds between two looks at most.
      beat: seconds between two signs of life.
      sleep: waits.
      log: takes progress lines.

    Raises:
      UserError: see `Sampler.turn`; or a living process has this index.
      Stopped: after Ctrl-C or SIGTERM; the groups that are finished are written.
    """
    if jax.process_count() > 1:
        raise UserError(f"a sampler is one process, found {jax.process_count()}; start more samplers instead")
    root = epath.Path(directory)
    who = f"sampler {index}/{count}"
    with alone(root / "samplers" / f"{index}.lock", who), beats.Beat(root / "samplers", index, count, beat) as life:
        log(f"{who} follows {root}")
        try:
            with stopping.listening():
                _loop(sampler, life, who, poll, sleep, log)
        except stopping.Stopped as stopped:
            stopped.kept = f"{sampler.groups:,} groups are written; {stopping.GOES_ON}"
            raise
        log(f"{who} ends: {_status(sampler)}")
    return sampler.groups


def _loop(
    sampler: Sampler,
    life: beats.Beat,
    who: str,
    poll: float,
    sleep: Callable[[float], None],
    log: Callable[[str], None],
) -> None:
    def tell(state: str) -> None:
        life.tell(state=state, policy=sampler.policy, groups=sampler.groups)

    waits, began = pauses(most=poll), time.monotonic()
    last = began
    while (done := sampler.turn(tell)) is not None:
        if done:
            waits = pauses(most=poll)
        else:
            tell("waiting")
            sleep(next(waits))
        now = time.monotonic()
        if now - last >= LINE_EVERY:
            last = now
            log(f"{who}: {_status(sampler)}, idle for {1 - sampler.seconds / (now - began):.0%} of the time")


def _status(sampler: Sampler) -> str:
    policy = "no order yet" if sampler.policy is None else f"policy {sampler.policy}"
    speed = sampler.tokens / max(sampler.seconds, 1e-9)
    return f"{policy}, {sampler.groups:,} groups, {sampler.traces:,} traces, {speed:,.0f} tokens/s"
