"""The numbers of `config.serve`, each with a default that suits a model of today on one accelerator."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from lrm_align.errors import UserError


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """How a model is served. The defaults are ours where nothing else is said.

    Attributes:
      name: of the model to clients; where empty, the last part of its directory, its hub id, or "lab" for the lab's.
      temperature: where a request names none; 0.6 and `top_p` 0.95 are on the model cards of Qwen3 and R1-Distill.
      top_p: where a request names none.
      top_k: where a request names none; 0 is off.
      max_new_tokens: of a completion, where a request names fewer or none; 0 is what the slot has room for.
      slots: samples decoded at a time.
      lanes: threads that decode; see `EngineShape`.
      max_length: positions of a slot, prompt and completion; the model's own limit where that is smaller.
      steps_per_call: tokens between two looks of the host: how often a stream gets some, and a lookout for cancelling.
      queue: samples that may wait for a slot, and conversations that may wait to be read; who comes then is told 429.
      samples: most choices of a request (`n`).
      body_bytes: most of a request's body; more is told 413.
      connections: most at a time; who comes then is told 503.
      read_timeout: seconds in which a request must have come in whole; 408.
      queue_timeout: seconds that a request may be read and wait for a slot; 503.
      request_timeout: seconds until a request must be answered; 504, or an error in the stream. Who has not taken it in
        shortly after loses the connection.
      warm: compile everything before the first request.
    """

    name: str = ""
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 0
    slots: int = 16
    lanes: int = 1
    max_length: int = 4096
    steps_per_call: int = 8
    queue: int = 64
    samples: int = 8
    body_bytes: int = 1 << 20
    connections: int = 512
    read_timeout: float = 10.0
    queue_timeout: float = 60.0
    request_timeout: float = 600.0
    warm: bool = True

    def __post_init__(self) -> None:
        for name in ("body_bytes", "connections", "samples", "read_timeout", "queue_timeout", "request_timeout"):
            if not getattr(self, name) > 0:
                raise UserError(f"config.serve.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("queue", "max_new_tokens"):
            if getattr(self, name) < 0:
                raise UserError(f"config.serve.{name} is {getattr(self, name)}; it must be 0 or more")
        if self.max_length < 2:
            raise UserError(f"config.serve.max_length is {self.max_length}; it must hold a prompt and an answer")


def settings(values: Mapping[str, Any]) -> ServeSettings:
    """The settings that a config gives, with our defaults for the rest.

    >>> settings({"slots": 4}).slots
    4

    Raises:
      UserError: an unknown key, or a value out of its range.
    """
    known = [field.name for field in dataclasses.fields(ServeSettings)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise UserError(f"config.serve has an unknown key {key!r}{hint}")
    return ServeSettings(**values)
