"""The curves of training: which metrics of which stages are worth a panel."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lrm_align import json_lines
from lrm_align.pages.run import Run

PANELS = 15  # ours: more are not looked at
_POINTS = 400  # of a line: a page has no more pixels
# What people look at first; others follow in the order of the file. Names end at a slash or match whole.
_FIRST: tuple[str, ...] = (
    "loss",
    "reward/mean",
    "reward",
    "length/mean",
    "mode",
    "kl",
    "entropy",
    "accuracy",
    "margin",
)
_FIRST += (
    "gap/mean",
    "samples/truncated",
    "samples/unscored",
    "groups/without_spread",
    "clip",
    "grad_norm",
    "lr",
    "nll",
)
_NEVER: tuple[str, ...] = ("step", "step_s", "tokens_per_s", "trained_tokens_per_s", "slot_tokens_per_s", "param_norm")
_NEVER += (
    "update_norm",
    "completions_per_s",
    "mfu",
    "device_peak_bytes",
    "time",
    "ratio",
    "staleness",
    "groups/trained",
)


class Line(NamedTuple):
    """One metric of one stage."""

    name: str
    steps: list[float]
    values: list[float]


def panels(runs: Sequence[Run]) -> dict[str, list[Line]]:
    """Lines by metric, of all stages of all runs that left metrics."""
    found: dict[str, list[Line]] = {}
    for run in runs:
        for part in run.parts:
            for stage, directory in part.stages.items():
                rows = json_lines.read_objects(directory / "metrics.jsonl")
                for metric in dict.fromkeys(name for row in rows for name in row):
                    line = _line(f"{run.label(part, len(runs) == 1)}: {stage}", metric, rows)
                    if line is not None:
                        found.setdefault(metric, []).append(line)
    order = sorted(found, key=_rank)
    return {metric: found[metric] for metric in order[:PANELS]}


def _line(name: str, metric: str, rows: Sequence[dict[str, Any]]) -> Line | None:
    if metric in _NEVER or metric.split("/")[0] in _NEVER:
        return None
    points = [
        (row["step"], row[metric])
        for row in rows
        if all(type(row.get(key)) in (int, float) and math.isfinite(row[key]) for key in ("step", metric))
    ]
    # A curve that never moves says nothing.
    if not points or len({value for _, value in points}) == 1:
        return None
    kept = points[:: -(-len(points) // _POINTS)]
    return Line(name, [float(step) for step, _ in kept], [float(value) for _, value in kept])


def _rank(metric: str) -> tuple[int, int]:
    """The place among `_FIRST`; sums before what they are of."""
    for place, name in enumerate(_FIRST):
        if metric == name or metric.startswith(f"{name}/"):
            return place, metric.count("/")
    return len(_FIRST), metric.count("/")
