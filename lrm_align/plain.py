"""Configs as plain values, and a short hash of them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def plain(value: Any) -> Any:
    """A config as dicts, tuples and scalars."""
    if isinstance(value, ConfigDict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def digest(value: Any) -> str:
    """A short hash of plain values, equal for equal configs on any machine.

    >>> digest({"b": 1, "a": (1.0, None)}) == digest({"a": (1.0, None), "b": 1})
    True
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
