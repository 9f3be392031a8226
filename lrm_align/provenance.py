"""Where a token of a trace came from."""

import enum


class Source(enum.IntEnum):
    """The origin of one token; losses are masked by it, never by searching for template markers."""

    PROMPT = 0
    SAMPLED = 1
    INJECTED = 2
    TOOL = 3
