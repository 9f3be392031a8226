"""Lanes: an engine's slots split over threads."""

import dataclasses
import subprocess
import sys
import textwrap
import threading

import pytest

from lrm_align.errors import UserError
from lrm_align.sampling import EngineShape, programs
from lrm_align.sampling.lanes import side_by_side
from tests.sampling.engines import PARAMS, SHAPE, assert_bitwise, engine, requests, run

LANES = dataclasses.replace(SHAPE, slots=8, lanes=2, prefill_rows=4, refill_at=2)


def test_lanes_sample_what_an_engine_of_a_lane_samples():
    asked = requests(30, samples=3)
    counts: list[int] = []
    ours = engine(LANES)
    together = {(c.request.prompt_id, c.sample): c for c in ours.run(asked, watch=counts.append)}
    for key, completion in run(engine(LANES.lane), asked).items():
        assert_bitwise(completion, together[key])
    assert sum(counts) == sum(completion.ids.size for completion in together.values())
    for key, completion in run(ours, asked[::-1]).items():
        assert_bitwise(completion, together[key])


@pytest.mark.parametrize("count, samples", [(0, 1), (1, 1), (1, 20), (2, 1)])
def test_fewer_requests_than_lanes(count, samples):
    assert len(run(engine(LANES), requests(count, samples))) == count * samples


def test_a_fault_in_one_lane_is_raised_and_ends_the_others(monkeypatch):
    decode, calls = programs.decode, []

    def breaking(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("broken")
        return decode(*arguments)

    monkeypatch.setattr(programs, "decode", breaking)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="broken"):
        list(engine(LANES).run(requests(40, params=dataclasses.replace(PARAMS, max_new_tokens=20))))
    assert threading.active_count() == before


def test_who_wants_no_more_ends_the_lanes():
    before = threading.active_count()
    completions = engine(LANES).run(requests(40, samples=2))
    next(completions)
    assert threading.active_count() > before
    completions.close()
    assert threading.active_count() == before


def test_a_process_that_ends_in_the_middle_ends_well():
    code = textwrap.dedent("""
        import jax
        import jax.numpy as jnp
        from lrm_align.sampling.lanes import side_by_side

        def lane(watch):
            product = jax.jit(lambda x: 0.001 * x @ x)
            x = jnp.ones((8, 8))
            while True:
                x = product(x)
                watch(1)
                yield int(x[0, 0])

        kept = side_by_side([lane, lane], None)
        for turn, _ in enumerate(kept):
            if turn == 1000:
                raise SystemExit(143)
    """)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (143, "")


def test_a_lane_is_told_at_its_next_look():
    told = threading.Event()

    def endless(watch):
        try:
            while True:
                watch(1)
        finally:
            told.set()
        yield

    def broken(watch):
        yield "one"
        raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        list(side_by_side([endless, broken], None))
    assert told.is_set()


def test_slots_divide_into_lanes():
    with pytest.raises(UserError, match="7 slots do not divide into 2 lanes"):
        EngineShape(slots=7, lanes=2)
    lane = LANES.lane
    assert (lane.slots, lane.prefill_rows, lane.refill_at, lane.lanes) == (4, 2, 1, 1)
