"""What a run cost: tokens of an answer, and where the seconds of its stages went. Read of what the stages left."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from lrm_align import json_lines
from lrm_align.provenance import Source
from lrm_align.recipes.stage import Planned, seconds
from lrm_align.traces import list_shards, read_shard
from lrm_align.training import metrics

GENERATION, TRAINING, OTHER = "generation", "training", "other"


def tokens_per_answer(directory: epath.Path) -> float:
    """The mean number of tokens that a model wrote for a prompt of an evaluation, over all of its prompts.

    Args:
      directory: of a finished evaluation stage.
    """
    sizes = [
        np.count_nonzero(trace.source == Source.SAMPLED)
        for name in sorted(directory.iterdir())
        if name.is_dir()
        for shard in list_shards(name)
        for trace in read_shard(shard)
    ]
    return float(np.mean(sizes))


def spent(stages: Sequence[Planned]) -> dict[str, float]:
    """Seconds of generation, of training, and of all else that is no evaluation (filters, judges, writing).

    A stage that leaves traces generates, one that leaves metrics trains; RL is divided step by step. A stage that was
    interrupted counts with what its last process took, RL with all of its steps.
    """
    found = dict.fromkeys((GENERATION, TRAINING, OTHER), 0.0)
    for planned in stages:
        directory, took = planned.directory, seconds(planned.directory)
        if took is None or any(directory.glob("*.answers.jsonl")):
            continue
        if (directory / metrics.FILE).exists():
            sampled, updated = _steps(directory / metrics.FILE)
            found[GENERATION] += sampled
            found[TRAINING] += updated or took
        elif list_shards(directory):
            found[GENERATION] += took
        else:
            found[OTHER] += took
    return {name: round(value, 1) for name, value in found.items()}


def _steps(path: epath.Path) -> tuple[float, float]:
    """(seconds of rollouts with their grading, seconds of all else) of RL steps; zeros for other training."""
    rows = json_lines.read_objects(path)
    steps = [(row["step_s"], row["time/rollout"] + row["time/grading"]) for row in rows if "time/rollout" in row]
    return sum(s * share for s, share in steps), sum(s * (1 - share) for s, share in steps)
