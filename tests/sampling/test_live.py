"""Requests at any time: what they hear is what a run of the engine gives, and nothing that is taken back."""

import dataclasses
import queue
import time

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.sampling import Request, SamplingParams
from lrm_align.sampling.interventions import Continue, Inject, Rewind, StepBoundary
from lrm_align.sampling.live import Ended, Failed, FullError, Grown, Live, Started, seconds_a_token
from lrm_align.sampling.settled import settled
from tests.sampling.engines import PARAMS, SHAPE, assert_bitwise, engine, requests, run

LONG = SamplingParams(max_new_tokens=24)


@pytest.fixture(scope="module")
def one():
    return engine()


@pytest.fixture
def live(one):
    live = Live(one, waiting=100)
    yield live
    live.close()


def heard(events: queue.SimpleQueue, samples: int = 1) -> list:
    """Everything up to the last end, or the failure."""
    found, left = [], samples
    while left:
        found.append(events.get(timeout=60))
        left = 0 if isinstance(found[-1], Failed) else left - isinstance(found[-1], Ended)
    return found


def ask(live: Live, request: Request) -> queue.SimpleQueue:
    events: queue.SimpleQueue = queue.SimpleQueue()
    live.submit(request, events.put)
    return events


def idle(live: Live) -> bool:
    """Whether everything is over soon."""
    end = time.monotonic() + 60
    while any(live.counts()[:2]) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(live.counts()[:2])


def test_the_first_token_is_heard_alone_and_the_others_in_pieces(one, live):
    events = heard(ask(live, dataclasses.replace(requests(1)[0], params=LONG)))
    pieces = [len(event.ids) for event in events if isinstance(event, Grown)]
    assert pieces[0] == 1, "before the other tokens of a call are decoded"
    assert max(pieces[1:], default=SHAPE.steps_per_call) == SHAPE.steps_per_call


def test_the_speed_is_measured(one):
    assert 0 < seconds_a_token(one, 8) < 60


def test_streams_are_the_completions_of_a_run(one, live):
    asked = requests(9, samples=2)
    expected = run(one, asked)
    listening = {request.prompt_id: ask(live, request) for request in asked}
    for request in asked:
        events = heard(listening[request.prompt_id], samples=2)
        assert isinstance(events[0], Started)
        for number in request.numbers:
            mine = [e for e in events if isinstance(e, Grown | Ended) and e.sample == number]
            ids = [id for event in mine for id in event.ids]
            assert_bitwise(mine[-1].completion, expected[request.prompt_id, number])
            np.testing.assert_array_equal(ids, mine[-1].completion.ids)
    assert idle(live) and live.counts().finished == 18


def test_cancelled_requests_leave_their_slots(live):
    first = [ask(live, request) for request in requests(20, params=LONG)]
    second = [
        dataclasses.replace(request, prompt_id=f"second {i}") for i, request in enumerate(requests(20, params=LONG))
    ]
    unheard = [ask(live, request) for request in second]
    for request in [*second, *second, *requests(3, seed=1)]:  # twice, and ones that were never asked
        live.cancel(request)
    assert all(isinstance(heard(events)[-1], Ended) for events in first)
    assert idle(live) and live.counts().cancelled == 20 and live.counts().finished == 20
    while any(not events.empty() for events in unheard):
        assert not any(isinstance(events.get(), Ended) for events in unheard if not events.empty())


def test_too_many_are_refused(one):
    live = Live(one, waiting=2)
    asked = requests(12, params=LONG)
    taken, refused = [], 0
    for request in asked:
        try:
            taken.append(ask(live, request))
        except FullError:
            refused += 1
    assert len(taken) >= SHAPE.slots + 2 and refused
    assert all(isinstance(heard(events)[-1], Ended) for events in taken)
    live.close()
    with pytest.raises(FullError):
        ask(live, requests(1)[0])


def test_closing_tells_those_who_wait(one):
    live = Live(one, waiting=50)
    listening = [ask(live, request) for request in requests(30, params=LONG)]
    live.close()
    last = [heard(events)[-1] for events in listening]
    assert isinstance(last[-1], Failed) and all(isinstance(event, Failed | Ended) for event in last)


class Raises:
    """A defence with a fault."""

    ask_at = (StepBoundary(tuple(range(6, 40))),)

    def on_tokens(self, trace, state):
        raise ZeroDivisionError("a fault in a defence")


def test_a_fault_is_told_and_the_next_is_served(live, caplog):
    broken = ask(live, requests(1, intervention=Raises(), seed=3)[0])
    assert isinstance(heard(broken)[-1], Failed)
    assert "starts anew" in caplog.text
    assert isinstance(heard(ask(live, requests(1, seed=4)[0]))[-1], Ended)


def test_what_the_engine_cannot_serve_is_refused_at_once(live):
    with pytest.raises(UserError, match="allows"):
        ask(live, Request("long", np.full(SHAPE.max_length, 7), params=PARAMS))


class Again:
    """Takes back each step once, and says what stays."""

    ask_at = (StepBoundary(tuple(range(6, 24))),)

    def on_tokens(self, trace, state):
        begin = state.setdefault("begin", 0)
        if state.get("again") is None:
            state["again"] = True
            return Rewind(begin, Inject((7,)))
        state |= {"again": None, "begin": int(trace.ids.size)}
        return Continue()

    def settled(self, length, state):
        return state.get("begin", 0)


class Silent(Again):
    """The same, but it does not say."""

    settled = None


@pytest.mark.parametrize("kind", [Again, Silent])
def test_nothing_is_told_that_is_taken_back(live, kind):
    for request in requests(6, params=LONG, intervention=kind(), seed=5):
        events = heard(ask(live, request))
        ids = [id for event in events if isinstance(event, Grown | Ended) for id in event.ids]
        np.testing.assert_array_equal(ids, events[-1].completion.ids)


def test_what_is_settled():
    plain, again = Request("a", [1]), Request("a", [1], intervention=Again())
    assert settled(plain, False, 5, {}) == 5
    assert settled(again, False, 5, {}) == 0 and settled(again, False, 5, {"begin": 3}) == 3
    assert settled(again, True, 5, {}) == 5
