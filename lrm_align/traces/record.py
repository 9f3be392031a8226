"""The trace: token ids with provenance, and its msgpack form."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lrm_align.errors import UserError
from lrm_align.provenance import Source

SCHEMA = 1
KIND = "lrm_align.trace"
STOP_REASONS = ("stop", "length", "intervention")
MAX_NESTING = 16  # of the plain dicts; deeper ones are hostile, and would overflow recursive readers

_SCALARS = (str, int, float, bool, bytes)
_INT32_MAX = np.iinfo(np.int32).max
_INT64_MAX = np.iinfo(np.int64).max
_ARRAYS = {"prompt_ids": "<i4", "completion_ids": "<i4", "source": "u1", "sampler_logp": "<f4", "model_logp": "<f4"}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One prompt and one completion as token ids, each labelled with its source.

    The ids are the ones that the model read and drew: nothing sampled is ever detokenised and tokenised again.
    Everything is checked when a trace is made, so that a trace that exists is sound; the arrays are read-only.

    >>> trace = Trace([5, 6], [7, 8], [Source.INJECTED, Source.SAMPLED], [float("nan"), -0.5], prompt_id="a")
    >>> trace.length, trace.ids.tolist(), trace.sources.tolist()
    (4, [5, 6, 7, 8], [0, 0, 2, 1])

    Args:
      prompt_ids: (P,) int32 ids of the prompt as the model read it, or as it shall be trained on.
      completion_ids: (C,) int32 ids that followed.
      source: (C,) uint8 `Source` of each token of the completion.
      sampler_logp: (C,) float32, log-probability under the actual sampling distribution; finite where the token was
        sampled, NaN elsewhere; empty or None when made means NaN throughout.
      model_logp: (C,) float32, log-probability under the untempered model; NaN throughout where it was not
        recorded (empty or None when made).
      sampling: parameters of the sampler (plain values).
      policy: number of the policy that sampled.
      prompt_id: name of the prompt; with `sample` it is the key of the trace.
      group_id: name of the group whose samples are compared with each other.
      sample: number of the sample of its prompt.
      stop_reason: "stop", "length" or "intervention".
      scores: `{scorer: {"value": …, "parts": …, "reason": …}}`.
      tags: labels such as "harmful".
      media: reference to an image or another medium, kept for later.
      meta: anything else that is plain.
      schema: version of the record.

    Raises:
      UserError: naming the field and what is wrong with it.
    """

    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    source: np.ndarray
    sampler_logp: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.float32))
    model_logp: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.float32))
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    policy: int = 0
    prompt_id: str = ""
    group_id: str = ""
    sample: int = 0
    stop_reason: str = "stop"
    scores: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    media: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if type(self.schema) is not int or self.schema != SCHEMA:
            raise UserError(f"trace: schema {self.schema!r} is not known here; this version reads schema {SCHEMA}")
        for name in ("prompt_id", "group_id"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"trace: {name} must be a string, found {type(getattr(self, name)).__name__}")
        where = f"trace {self.prompt_id!r} sample {self.sample!r}"
        put = object.__setattr__
        put(self, "policy", _count(self.policy, f"{where}: policy"))
        put(self, "sample", _count(self.sample, f"{where}: sample"))
        put(self, "prompt_ids", _ids(self.prompt_ids, f"{where}: prompt_ids"))
        put(self, "completion_ids", _ids(self.completion_ids, f"{where}: completion_ids"))
        put(self, "source", _ids(self.source, f"{where}: source", "<u1", len(Source) - 1))
        size = self.completion_ids.size
        if self.source.size != size:
            raise UserError(f"{where}: source labels {self.source.size} tokens, the completion has {size}")
        sampled = self.source == Source.SAMPLED
        put(self, "sampler_logp", _logp(self.sampler_logp, size, f"{where}: sampler_logp"))
        put(self, "model_logp", _logp(self.model_logp, size, f"{where}: model_logp"))
        known = np.isfinite(self.sampler_logp[sampled])
        if not known.all():
            missing = int((~known).sum())
            raise UserError(f"{where}: sampler_logp is not finite at {missing} of {known.size} sampled tokens")
        known = np.isfinite(self.model_logp[sampled])
        if known.any() and not known.all():
            raise UserError(
                f"{where}: model_logp is not finite at {int((~known).sum())} of {known.size} sampled tokens; "
                "it must be recorded for all of them or for none"
            )
        if self.stop_reason not in STOP_REASONS:
            raise UserError(f"{where}: stop_reason {self.stop_reason!r} is none of {', '.join(STOP_REASONS)}")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags):
            raise UserError(f"{where}: tags must be strings, found {self.tags!r}")
        put(self, "tags", tuple(self.tags))
        for name in ("sampling", "scores", "meta"):
            put(self, name, _plain_dict(getattr(self, name), f"{where}: {name}"))
        if self.media is not None:
            put(self, "media", _plain_dict(self.media, f"{where}: media"))
        if not all(isinstance(score, dict) for score in self.scores.values()):
            raise UserError(f"{where}: every score must be a dict of value, parts and reason")

    @property
    def key(self) -> tuple[str, int]:
        """What makes the trace unique in a run: its prompt and its sample number."""
        return self.prompt_id, self.sample

    @property
    def length(self) -> int:
        """Tokens of prompt and completion together."""
        return self.prompt_ids.size + self.completion_ids.size

    @property
    def ids(self) -> np.ndarray:
        """(P + C,) int32 ids of prompt and completion."""
        return np.concatenate([self.prompt_ids, self.completion_ids])

    @property
    def sources(self) -> np.ndarray:
        """(P + C,) uint8 sources of prompt and completion."""
        return np.concatenate([np.full(self.prompt_ids.size, Source.PROMPT, np.uint8), self.source])

    def replace(self, **changes: Any) -> "Trace":
        """A copy with some fields changed, checked anew."""
        return dataclasses.replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    def to_bytes(self) -> bytes:
        """The msgpack form: arrays as little-endian bytes, everything else plain."""
        fields: dict[str, Any] = {"kind": KIND}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            fields[field.name] = value.tobytes() if field.name in _ARRAYS else value
        try:
            return msgpack.packb(fields, use_bin_type=True)
        except (ValueError, OverflowError) as error:  # lone surrogates, integers beyond 64 bits
            raise UserError(f"trace {self.prompt_id!r} sample {self.sample}: cannot be written: {error}") from None

    @staticmethod
    def from_bytes(data: bytes) -> "Trace":
        """Reads `to_bytes` back.

        Raises:
          UserError: whatever the bytes are, if they are not a sound trace.
        """
        try:
            fields = msgpack.unpackb(data, raw=False, strict_map_key=True)
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise UserError(f"trace: {len(data)} bytes are not msgpack ({type(error).__name__})") from None
        if not isinstance(fields, dict) or fields.pop("kind", None) != KIND:
            raise UserError(f"trace: the record is msgpack but not of kind {KIND}")
        if fields.get("schema") != SCHEMA:
            raise UserError(f"trace: schema {fields.get('schema')!r} is not known here; this version reads {SCHEMA}")
        wanted = {field.name for field in dataclasses.fields(Trace)}
        if fields.keys() != wanted:
            odd = sorted(map(repr, fields.keys() ^ wanted))
            raise UserError(f"trace: missing or unknown fields: {', '.join(odd)[:200]}")
        for name, dtype in _ARRAYS.items():
            value = fields[name]
            if not isinstance(value, bytes) or len(value) % np.dtype(dtype).itemsize:
                raise UserError(f"trace: {name} is not an array of {np.dtype(dtype).name}")
            fields[name] = np.frombuffer(value, dtype)
        if not isinstance(fields["tags"], list) or not isinstance(fields["stop_reason"], str):
            raise UserError("trace: tags must be a list and stop_reason a string")
        return Trace(**fields)


def _count(value: Any, what: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 0 <= value <= _INT64_MAX:
        raise UserError(f"{what} must be a whole number from 0, found {value!r}")
    return int(value)


def _frozen(values: np.ndarray, dtype: str) -> np.ndarray:
    if values.dtype == dtype and isinstance(values.base, bytes):
        return values  # a view of a record just read, which nobody can write to
    array = np.array(values, dtype)  # a copy: the caller's array stays writable, ours does not change under us
    array.setflags(write=False)
    return array


def _ids(values: Any, what: str, dtype: str = "<i4", most: int = _INT32_MAX) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UserError(f"{what} must be a flat list of integers, found {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() > most):
        raise UserError(f"{what} must lie in 0…{most}, found {array.min()}…{array.max()}")
    return _frozen(array, dtype)


def _logp(values: Any, size: int, what: str) -> np.ndarray:
    empty = values is None or np.size(values) == 0
    array = np.full(size, np.nan, np.float32) if empty else np.asarray(values)
    if array.shape != (size,) or (size and array.dtype.kind not in "fiu"):
        raise UserError(f"{what} must hold {size} numbers, found {array.dtype} of shape {array.shape}")
    return _frozen(array, "<f4")


def _plain_dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{what} must be a dict, found {type(value).__name__}")
    return _plain(value, what, MAX_NESTING)


def _plain(value: Any, what: str, depth: int) -> Any:
    """Copies nested values with NumPy scalars made plain, and refuses what msgpack or JSON could not give back."""
    if value is None or type(value) in _SCALARS:
        return value
    if depth == 0:
        raise UserError(f"{what} is nested more than {MAX_NESTING} deep")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise UserError(f"{what}: keys must be strings, found {[k for k in value if not isinstance(k, str)][:3]!r}")
        return {key: _plain(item, what, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, what, depth - 1) for item in value]
    if isinstance(value, np.generic) and type(value.item()) in _SCALARS:
        return value.item()
    raise UserError(f"{what} holds a {type(value).__name__}; only plain values can be stored")
