"""The decoding engine: continuous batching over a cache of keys and values, with one hook for interventions.

request.py        what is asked and what comes back
distribution.py   from logits to a token
interventions.py  the hook: when to ask, what may be answered
shape.py          the static sizes
programs.py       what runs on the device
table.py          what is in each slot
settled.py        what an intervention will not take back
decoding.py       one lane: its cache and its slots
engine.py         the loop on the host
live.py           the same for requests that come at any time, told as they grow
generate.py       resumable generation into shards
"""

from lrm_align.sampling.engine import Engine
from lrm_align.sampling.generate import generate, to_trace
from lrm_align.sampling.interventions import ForcedPrefix, Intervention
from lrm_align.sampling.request import Completion, Request, SamplingParams
from lrm_align.sampling.shape import EngineShape

__all__ = [
    "Completion",
    "Engine",
    "EngineShape",
    "ForcedPrefix",
    "Intervention",
    "Request",
    "SamplingParams",
    "generate",
    "to_trace",
]
