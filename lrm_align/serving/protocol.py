"""What a client may send to `/v1/chat/completions`, and what it gets back: OpenAI's chat completions, text only.

Source of the names: https://platform.openai.com/docs/api-reference/chat, and for thoughts (`reasoning_content`),
`top_k` and `min_p` the servers that people run reasoning models with.
"""

import dataclasses
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align import untrusted
from lrm_align.errors import UserError
from lrm_align.sampling import SamplingParams
from lrm_align.settings.serving import ServeSettings

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MOST_STOPS = 4
STREAM_OPTIONS = ("include_usage", "include_obfuscation")
# Named by clients as a matter of course; they change nothing here, or nothing at these values.
IGNORED = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "parallel_tool_calls",
}  # fmt: skip
NEUTRAL: Mapping[str, Sequence[Any]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "moderation": (None,),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}
ABSENT: Mapping[str, Any] = types.MappingProxyType({})  # what is not there, where null says something else
FINISH = {"stop": "stop", "length": "length", "intervention": "content_filter"}


class RefusedError(Exception):
    """A request that is not served, as the client is told.

    Args:
      status: of HTTP.
      message: what is wrong, what was found and what would be right.
      param: the field.
      code: a word for programs.
      retry: seconds after which to come again, where that may help.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, retry: int = 0):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Whether and when it helps to come again; OpenAI's client reads both."""
        if self.retry:
            return {"retry-after": str(self.retry)}
        # RFC 9110, section 15.5.2: a 401 says how to authenticate.
        challenge = {"www-authenticate": "Bearer"} if self.status == 401 else {}
        return {"x-should-retry": "false", **challenge}


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request that is understood."""

    messages: list[dict[str, str]]
    params: SamplingParams
    samples: int
    stops: tuple[str, ...]
    seed: int | None
    stream: bool
    usage: bool  # a last chunk of a stream says how many tokens there were


def parse(body: bytes, name: str, settings: ServeSettings, room: int) -> Asked:
    """Reads a request's body.

    Args:
      body: JSON.
      name: of the model.
      settings: the limits and defaults.
      room: most tokens of a completion.

    Raises:
      RefusedError: it isn't JSON, lacks something, or asks for what is not offered.
    """
    fields = _json(body)
    known = {field: value for field, value in fields.items() if field not in IGNORED}
    for field, neutral in NEUTRAL.items():
        value = known.pop(field, None)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral):
            raise _wrong(field, f"{_shown(value)} is not offered here", code="unsupported_parameter")
    model = known.pop("model", None)
    if not isinstance(model, str):
        raise _wrong("model", f"is {_shown(model)}; it must be {name!r}")
    if model != name:
        raise RefusedError(404, f"the model {model[:200]!r} is not served; it is {name!r}", "model", "model_not_found")
    messages = _messages(known.pop("messages", None))
    default = settings.max_new_tokens or room
    tokens = _number(known, "max_completion_tokens", None, int, 1, None)
    older = _number(known, "max_tokens", None, int, 1, None)
    params = {
        "temperature": _number(known, "temperature", settings.temperature, float, 0, 2),
        "top_p": _number(known, "top_p", settings.top_p, float, 0, 1),
        "top_k": _number(known, "top_k", settings.top_k, int, 0, None),
        "min_p": _number(known, "min_p", 0.0, float, 0, 1),
        # More than fits is no mistake: the completion then ends with finish_reason "length".
        "max_new_tokens": min(tokens or older or default, default, room),
    }
    samples = _number(known, "n", 1, int, 1, settings.samples)
    seed = _number(known, "seed", None, int, None, None)
    stops = _stops(known.pop("stop", None))
    stream = _flag(known.pop("stream", None), "stream")
    usage = _usage(known.pop("stream_options", None), stream)
    if known:
        raise _wrong(sorted(known)[0][:200], "is unknown here", code="unknown_parameter")
    try:
        return Asked(messages, SamplingParams(**params), samples, stops, seed, stream, usage)
    except UserError as error:
        raise RefusedError(400, str(error)) from None


def completion(id: str, created: int, name: str, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any]) -> Any:
    """A whole answer."""
    head = {"id": id, "object": "chat.completion", "created": created, "model": name}
    return {**head, "choices": list(choices), "usage": dict(usage)}


def chunk(
    id: str, created: int, name: str, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any] | None = ABSENT
) -> Any:
    """A piece of a streamed answer.

    Args:
      id, created, name: the same in every piece.
      choices: what is new.
      usage: token counts, in the last piece; None in those before it; `ABSENT` where the client did not ask for them.
    """
    head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": name, "choices": list(choices)}
    return head if usage is ABSENT else {**head, "usage": usage}


def model(name: str, created: int) -> Any:
    """The served model in a list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "lrm_align"}


def _json(body: bytes) -> dict[str, Any]:
    try:
        fields = untrusted.parse_json(body, "the body")
    except UserError as error:
        raise RefusedError(400, str(error)[:300], code="invalid_json") from None
    if not isinstance(fields, dict):
        raise RefusedError(400, f"the body is {_shown(fields)}; it must be a JSON object", code="invalid_json")
    return fields


def _messages(found: Any) -> list[dict[str, str]]:
    if not isinstance(found, list) or not found:
        raise _wrong("messages", f"is {_shown(found)}; it must be a list of at least one message")
    messages = [_message(message, f"messages[{i}]") for i, message in enumerate(found)]
    if not any(message["role"] == "user" for message in messages):
        raise _wrong("messages", "holds no message of the user")
    return messages


def _message(found: Any, where: str) -> dict[str, str]:
    if not isinstance(found, dict):
        raise _wrong(where, f"is {_shown(found)}; it must be an object with role and content")
    role, content = found.get("role"), found.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"{where}.role", f"is {_shown(role)}; it must be one of {', '.join(ROLES)}")
    if found.get("tool_calls") or found.get("function_call"):
        raise _wrong(f"{where}.tool_calls", "is not offered here", code="unsupported_parameter")
    if isinstance(content, list):
        content = "".join(_text(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    if not isinstance(content, str):
        raise _wrong(f"{where}.content", f"is {_shown(content)}; it must be text")
    return {"role": ROLES[role], "content": content}


def _text(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise _wrong(where, "must be a part of type text: images, sound and files are not offered here")
    return part["text"]


def _stops(found: Any) -> tuple[str, ...]:
    stops = [found] if isinstance(found, str) else [] if found is None else found
    sound = isinstance(stops, list) and all(isinstance(stop, str) and 0 < len(stop) <= 200 for stop in stops)
    if not sound or len(stops) > MOST_STOPS:
        raise _wrong("stop", f"is {_shown(found)}; it must be at most {MOST_STOPS} strings of 1 to 200 characters")
    return tuple(stops)


def _usage(options: Any, stream: bool) -> bool:
    """Whether the tokens of a stream are to be counted in it."""
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _wrong("stream_options", f"is {_shown(options)}; it must be an object")
    if not stream:
        raise _wrong("stream_options", "says nothing without stream = true; leave it out or stream the answer")
    # Obfuscation hides the length of tokens from who can see encrypted traffic; there is none here to hide.
    flags = {name: _flag(value, f"stream_options.{name}") for name, value in options.items() if name in STREAM_OPTIONS}
    if unknown := sorted(set(options) - set(flags)):
        raise _wrong(f"stream_options.{unknown[0][:200]}", "is unknown here", code="unknown_parameter")
    return flags.get("include_usage", False)


def _number(fields: dict[str, Any], name: str, default: Any, kind: type, low: Any, high: Any) -> Any:
    value = fields.pop(name, None)
    if value is None:
        return default
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if right and kind is int:
        right = isinstance(value, int) and abs(value) < 2**63
    if not right or (low is not None and value < low) or (high is not None and value > high):
        span = f" from {low}" * (low is not None) + f" to {high}" * (high is not None)
        raise _wrong(name, f"is {_shown(value)}; it must be {'an integer' if kind is int else 'a number'}{span}")
    return min(value, 2**31 - 1) if name != "seed" and kind is int else kind(value)


def _flag(value: Any, name: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, f"is {_shown(value)}; it must be true or false")
    return bool(value)


def _wrong(field: str, message: str, code: str | None = None) -> RefusedError:
    return RefusedError(400, f"{field} {message}", field, code)


def _shown(value: Any) -> str:
    """A value in a message: short, and never a whole prompt."""
    if value is None:
        return "missing"
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'JSON object'} of {len(value)}"
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}…"
