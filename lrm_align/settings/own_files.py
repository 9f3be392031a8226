"""The two files of one's own that the presets for one machine read."""

from typing import Any

COLUMNS = {"text": "prompt", "label": "label"}


def prompts() -> dict[str, dict[str, Any]]:
    """To train on: a line {"prompt": "…", "label": "harmful" or "benign"} each; "…" is a text or a list of messages."""
    return {"mine": {"path": "prompts.jsonl", "columns": dict(COLUMNS)}}


def held_out() -> dict[str, dict[str, Any]]:
    """Harmful ones to measure on, none of which is trained on."""
    return {"held_out": {"path": "held_out.jsonl", "columns": dict(COLUMNS)}}
