import contextlib
import dataclasses

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.traces import Trace

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
plain_dicts = st.dictionaries(st.text(max_size=4), plain, max_size=3)
ids = st.lists(st.integers(0, 2**31 - 1), max_size=6)


@st.composite
def traces(draw):
    completion = draw(ids)
    source = draw(st.lists(st.sampled_from(list(Source)), min_size=len(completion), max_size=len(completion)))
    logp = [draw(st.floats(-50, 0)) if label == Source.SAMPLED else float("nan") for label in source]
    return Trace(
        draw(ids), completion, source, logp, draw(st.sampled_from([logp, None])),
        sampling=draw(plain_dicts), policy=draw(st.integers(0, 2**63 - 1)), prompt_id=draw(st.text(max_size=5)),
        group_id=draw(st.text(max_size=5)), sample=draw(st.integers(0, 9)),
        stop_reason=draw(st.sampled_from(["stop", "length", "intervention"])),
        scores=draw(st.dictionaries(st.text(max_size=3), plain_dicts, max_size=2)),
        tags=tuple(draw(st.lists(st.text(max_size=3), max_size=2))), media=draw(st.none() | plain_dicts),
        meta=draw(plain_dicts),
    )  # fmt: skip


@given(traces())
@settings(max_examples=30, deadline=None)
def test_bytes_round_trip(trace):
    back = Trace.from_bytes(trace.to_bytes())
    assert back == trace
    assert back.to_bytes() == trace.to_bytes()
    for name in ("prompt_ids", "completion_ids", "source", "sampler_logp", "model_logp"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trace, name))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_user_error(data):
    with pytest.raises(UserError):
        Trace.from_bytes(data)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_an_altered_record_is_read_or_refused_but_never_crashes(data):
    trace = Trace([1, 2], [3, 4], [1, 1], [-1.0, -2.0], prompt_id="a", tags=("x",), scores={"g": {"value": 1.0}})
    raw = bytearray(trace.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    with contextlib.suppress(UserError):
        Trace.from_bytes(bytes(raw[:cut]))


@given(plain)
@settings(max_examples=60, deadline=None)
def test_any_value_in_any_field_ends_in_a_user_error_or_a_trace(value):
    fields = msgpack.unpackb(Trace([1], [2], [1], [-1.0]).to_bytes())
    for name in fields:
        with contextlib.suppress(UserError):
            Trace.from_bytes(msgpack.packb({**fields, name: value}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source": [1]}, "source labels 1 tokens"),
        ({"source": [1, 9]}, "source"),
        ({"sampler_logp": [-1.0]}, "sampler_logp"),
        ({"sampler_logp": [-1.0, float("nan")]}, "sampler_logp is not finite at 1 of 2"),
        ({"sampler_logp": [-1.0, -np.inf]}, "sampler_logp is not finite"),
        ({"model_logp": [-1.0, float("nan")]}, "model_logp is not finite"),
        ({"completion_ids": [1.5, 2]}, "completion_ids"),
        ({"completion_ids": [-1, 2]}, "completion_ids"),
        ({"prompt_ids": [2**40]}, "prompt_ids"),
        ({"stop_reason": "tired"}, "stop_reason"),
        ({"policy": -1}, "policy"),
        ({"sample": True}, "sample"),
        ({"tags": "harmful"}, "tags"),
        ({"scores": {"guard": 1.0}}, "score"),
        ({"meta": {"f": print}}, "meta"),
        ({"meta": {1: 2}}, "meta"),
        ({"schema": 2}, "schema 2"),
    ],
)
def test_unsound_fields_are_named(change, named):
    trace = Trace([1], [3, 4], [1, 1], [-1.0, -2.0])
    with pytest.raises(UserError, match=named):
        trace.replace(**change)


def test_hostile_nesting_is_refused():
    nested: list = []
    for _ in range(900):
        nested = [nested]
    with pytest.raises(UserError, match="nested"):
        Trace([1], [2], [2], meta={"deep": nested})


def test_a_trace_does_not_change_under_its_owner():
    mine = np.array([1, 2])
    trace = Trace(mine, [3], [1], [-1.0], meta={"n": np.float32(0.5)})
    mine[0] = 9
    assert trace.prompt_ids.tolist() == [1, 2] and trace.meta == {"n": 0.5}
    with pytest.raises(ValueError, match="read-only"):
        trace.prompt_ids[0] = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.policy = 3  # type: ignore[misc]
    assert trace.replace(prompt_ids=[7]).ids.tolist() == [7, 3]
