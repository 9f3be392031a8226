"""`config.serve`: how a model is served. The defaults are ours where no source is named.

Who has not taken an answer in shortly after `request_timeout` loses the connection; `steps_per_call` also says how
often a client that has gone is looked for.
"""

import dataclasses
from typing import Any

from lrm_align.settings.setting import setting

SERVED = "it decides how a model is served; no stage reads it"


def _setting(default: Any, help: str, **options: Any) -> Any:
    return setting(default, help, neutral=SERVED, **options)


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """How a model is served."""

    name: str = _setting("", 'of the model to clients; empty: the last part of its directory, its hub id, or "lab"')
    temperature: float = _setting(0.6, "where a request names none", least=0, source="cards of Qwen3, R1-Distill")
    top_p: float = _setting(0.95, "where a request names none", above=0, most=1, source="cards of Qwen3, R1-Distill")
    top_k: int = _setting(0, "where a request names none; 0: off", least=0)
    max_new_tokens: int = _setting(0, "of a completion; 0: what the slot has room for", least=0, unit="tokens")
    slots: int = _setting(16, "samples decoded at a time", least=1)
    lanes: int = _setting(1, "threads that decode", least=1)
    max_length: int = _setting(
        4096, "of prompt and completion; the model's limit if smaller", least=2, unit="positions"
    )
    steps_per_call: int = _setting(8, "between two pieces of a stream", least=1, unit="tokens")
    queue: int = _setting(64, "samples that may wait for a slot; who comes then is told 429", least=0)
    samples: int = _setting(8, "choices of a request at most", least=1)
    body_bytes: int = _setting(1 << 20, "of a request; more is told 413", least=1, unit="bytes")
    connections: int = _setting(512, "at a time; who comes then is told 503", least=1)
    read_timeout: float = _setting(10.0, "in which a request must have come in whole; 408", above=0, unit="seconds")
    queue_timeout: float = _setting(
        60.0, "that a request may wait for a slot, more where the model is slow; 503", above=0, unit="seconds"
    )
    request_timeout: float = _setting(
        600.0, "until a request must be answered, more where the model is slow; 504", above=0, unit="seconds"
    )
    warm: bool = _setting(True, "whether everything is compiled before the first request")
