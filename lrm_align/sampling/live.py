"""Requests at any time, told token by token: the engine as a server needs it."""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lrm_align.sampling.decoding import Decoding
from lrm_align.sampling.engine import Engine
from lrm_align.sampling.request import Completion, Request, SamplingParams

log = logging.getLogger(__name__)


class Started(NamedTuple):
    """The request waits no longer."""


class Grown(NamedTuple):
    """Further tokens of a sample, which no intervention will take back, and their `Source`s."""

    sample: int
    ids: list[int]
    source: list[int]


class Ended(NamedTuple):
    """The last tokens of a sample with their `Source`s, and the whole of it."""

    sample: int
    ids: list[int]
    source: list[int]
    completion: Completion


class Failed(NamedTuple):
    """Nothing more will come: an error on our side, or the end of the service."""

    error: BaseException


Event = Started | Grown | Ended | Failed


class FullError(Exception):
    """So many samples wait already that no further one may."""


class Counts(NamedTuple):
    """What goes on, and what has gone on since the start."""

    running: int
    waiting: int
    finished: int
    cancelled: int
    tokens: int


@dataclasses.dataclass(eq=False)
class _Ticket:
    """A request with what its owner has been told."""

    request: Request
    hear: Callable[[Event], object]
    told: dict[int, int]  # tokens of each sample that has not ended
    lane: int | None = None


class Live:
    """Decodes for whoever asks, until closed; each lane of the engine is a thread.

    The owner of a request hears `Started`, then for each sample any number of `Grown` and one `Ended`; or `Failed`, and
    nothing after it. It hears in a lane's thread, and must neither block nor raise.

    What a fault breaks (an intervention that raises, a device that fails) is one lane's work: its requests fail, and it
    begins anew with empty slots.

    Args:
      engine: whose parameters must not change meanwhile.
      waiting: samples that may wait for a slot.
    """

    def __init__(self, engine: Engine, waiting: int):
        self._engine = engine
        self._most = engine.lanes * engine.lane.slots + waiting
        self._wake = threading.Condition()  # guards all below
        self._waiting: collections.deque[Request] = collections.deque()
        self._tickets: dict[Request, _Ticket] = {}
        self._finished = self._cancelled = self._tokens = 0
        self._closing = False
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(engine.lanes)]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, hear: Callable[[Event], object]) -> None:
        """Takes in a request.

        Raises:
          UserError: one that the engine can't serve.
          FullError: too many wait.
        """
        self._engine.check([request])
        with self._wake:
            if self._closing:
                raise FullError("the service is closing")
            if self._unfinished() + len(request.numbers) > self._most:
                raise FullError("all slots are taken, and the queue is full")
            self._tickets[request] = _Ticket(request, hear, dict.fromkeys(request.numbers, 0))
            self._waiting.append(request)
            self._wake.notify_all()

    def cancel(self, request: Request) -> None:
        """Forgets a request: its slots are free at the next look. Nothing happens where it is finished."""
        with self._wake:
            ticket = self._tickets.pop(request, None)
            if ticket is not None:
                self._cancelled += len(ticket.told)
                if request in self._waiting:
                    self._waiting.remove(request)

    def counts(self) -> Counts:
        """How many samples run, wait and are finished."""
        with self._wake:
            waiting = sum(len(request.numbers) for request in self._waiting)
            running = self._unfinished() - waiting
            return Counts(running, waiting, self._finished, self._cancelled, self._tokens)

    def close(self) -> None:
        """Ends the threads; whoever still waits hears `Failed`."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._fail(list(self._tickets.values()), RuntimeError("the service was closed"))

    def _unfinished(self) -> int:
        return sum(len(ticket.told) for ticket in self._tickets.values())

    def _work(self, number: int) -> None:
        lane: Decoding | None = None
        while self._has_work(lane):
            try:
                lane = lane or self._engine.decoding()
                self._look(lane, number)
            except Exception as error:
                log.exception("a lane of the engine failed; its requests are refused, and it starts anew")
                lane = None
                with self._wake:
                    mine = [ticket for ticket in self._tickets.values() if ticket.lane == number]
                    if not mine and self._waiting:  # it failed before it took any: don't try for ever
                        mine = [self._tickets[self._waiting.popleft()]]
                self._fail(mine, error)

    def _has_work(self, lane: Decoding | None) -> bool:
        """Waits for work; False at the end."""
        with self._wake:
            while not (self._closing or self._waiting or (lane is not None and lane.table.occupied())):
                self._wake.wait()
            return not self._closing

    def _look(self, lane: Decoding, number: int) -> None:
        lane.drop(lambda request: request not in self._tickets)
        for completion in lane.fill(lambda: self._take(number)):
            self._end(completion)
        if not lane.table.occupied():
            return
        # Somebody who has heard nothing yet hears the first token at once, and not with the others of a call.
        new = any(not sample.ids.size for sample in lane.table.growing())
        tokens = lane.step(more=bool(self._waiting), steps=1 if new else None)
        with self._wake:
            self._tokens += tokens
        for sample in lane.table.growing():
            self._grow(sample.request, sample.sample, sample.ids[: sample.settled], sample.source)
        for completion in lane.table.finished():
            self._end(completion)

    def _take(self, number: int) -> list[Request]:
        with self._wake:
            tickets = [self._tickets[request] for request in self._engine.take(self._waiting)]
        for ticket in tickets:
            ticket.lane = number
            ticket.hear(Started())
        return [ticket.request for ticket in tickets]

    def _grow(self, request: Request, sample: int, ids: np.ndarray, source: np.ndarray) -> None:
        ticket = self._tickets.get(request)
        if ticket is not None and ids.size > ticket.told[sample]:
            fresh = slice(ticket.told[sample], ids.size)
            ticket.told[sample] = ids.size
            ticket.hear(Grown(sample, ids[fresh].tolist(), source[fresh].tolist()))

    def _end(self, completion: Completion) -> None:
        ticket = self._tickets.get(completion.request)
        if ticket is None:
            return
        with self._wake:
            told = ticket.told.pop(completion.sample)
            self._finished += 1
            if not ticket.told:
                self._tickets.pop(completion.request, None)
        ids, source = completion.ids[told:].tolist(), completion.source[told:].tolist()
        ticket.hear(Ended(completion.sample, ids, source, completion))

    def _fail(self, tickets: list[_Ticket], error: BaseException) -> None:
        with self._wake:
            for ticket in tickets:
                self._tickets.pop(ticket.request, None)
        for ticket in tickets:
            ticket.hear(Failed(error))


def seconds_a_token(engine: Engine, tokens: int = 32) -> float:
    """What a token of each slot takes, measured once everything is compiled; as long as the last sample goes on."""
    request = Request("speed", np.zeros(1, np.int32), engine.shape.slots, SamplingParams(max_new_tokens=tokens))
    started = time.perf_counter()
    longest = max(completion.ids.size for completion in engine.run([request]))
    return (time.perf_counter() - started) / longest


def warm(engine: Engine) -> None:
    """Compiles the engine's programs, so that the first requests need not wait for that."""
    lengths = sorted({min(bucket, engine.shape.max_length - 1) for bucket in engine.shape.buckets})
    params = SamplingParams(max_new_tokens=1)
    for completion in engine.run([Request(f"warm {n}", np.zeros(n, np.int32), 1, params) for n in lengths]):
        assert completion.ids.size
