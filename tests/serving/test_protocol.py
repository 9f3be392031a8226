"""What a client may send, and what it is told otherwise."""

import json

import pytest

from lrm_align import settings
from lrm_align.errors import UserError
from lrm_align.serving.protocol import RefusedError, parse
from lrm_align.settings.serving import ServeSettings

USER = {"role": "user", "content": "hello"}
GOOD = {"model": "m", "messages": [USER]}


def read(fields, limits=None):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return parse(body, "m", limits or ServeSettings(), room=100)


def test_defaults():
    asked = read(GOOD)
    assert asked.messages == [USER] and asked.samples == 1 and not asked.stream and asked.seed is None
    assert asked.params.temperature == 0.6 and asked.params.top_p == 0.95 and asked.params.max_new_tokens == 100


def test_everything_that_is_offered():
    more = {
        "messages": [
            {"role": "developer", "content": "be short"},
            {"role": "assistant", "content": "yes", "refusal": None},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
        ],
        "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "n": 2, "seed": -1, "stop": ["a", "b"],
        "max_tokens": 7, "max_completion_tokens": None, "stream": True, "stream_options": {"include_usage": True},
        "user": "u", "frequency_penalty": 0.0, "presence_penalty": None, "logit_bias": {}, "logprobs": False,
        "tools": [], "response_format": {"type": "text"}, "metadata": {"a": "b"},
    }  # fmt: skip
    asked = read({**GOOD, **more})
    assert [m["role"] for m in asked.messages] == ["system", "assistant", "user"]
    assert asked.messages[-1] == {"role": "user", "content": "ab"}
    assert (asked.samples, asked.seed, asked.stops, asked.usage) == (2, -1, ("a", "b"), True)
    assert (asked.params.temperature, asked.params.top_k, asked.params.max_new_tokens) == (0, 3, 7)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "messages[1].tool_calls"),
        ({"model": 3}, "model"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": 10**400}, None),  # no number that JSON readers agree on
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": 0}, None),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 1 << 70}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 3}, "stream_options"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),  # without a stream
        ({"stream_options": {}, "stream": False}, "stream_options"),
        ({"stream_options": {"include_usge": True}, "stream": True}, "stream_options.include_usge"),
        ({"stream_options": {"include_usage": 1}, "stream": True}, "stream_options.include_usage"),
        ({"verbosity": "high"}, "verbosity"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temprature": 0.5}, "temprature"),
    ],
)
def test_a_mistake_is_named(change, param):
    with pytest.raises(RefusedError) as refused:
        read({**GOOD, **change})
    assert refused.value.status == 400
    error = refused.value.body["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error" and len(error["message"]) < 400


def test_null_is_what_is_not_there():
    from openai.types.chat import completion_create_params

    names = {*completion_create_params.CompletionCreateParamsBase.__annotations__, "stream"} - {"model", "messages"}
    assert len(names) > 30 and read({**GOOD, **dict.fromkeys(names)}) == read(GOOD)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"seed": 1, "seed": 2}',
        b'{"seed": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_not_json(body):
    with pytest.raises(RefusedError, match="the body"):
        read(body)


def test_another_model():
    with pytest.raises(RefusedError) as refused:
        read({**GOOD, "model": "gpt-x"})
    assert refused.value.status == 404 and refused.value.code == "model_not_found"


def test_settings():
    assert settings.made(ServeSettings, {"slots": 3}, "config.serve").slots == 3
    for wrong in ({"slot": 3}, {"queue": -1}, {"read_timeout": 0}, {"max_length": 1}):
        with pytest.raises(UserError, match=r"config\.serve"):
            settings.made(ServeSettings, wrong, "config.serve")
