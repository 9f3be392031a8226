"""Forks: complete files outside the package, named from a config by import path, run on the lab."""

import collections
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lrm_align import advantages, rewards
from lrm_align.chat import Chat
from lrm_align.config import build
from lrm_align.lab import CHECKPOINT, RuleGuard
from lrm_align.main import main
from lrm_align.traces import find_shards, read_shard

ROOT = pathlib.Path(__file__).parents[2]
FORK = pathlib.Path(__file__).parent / "fork"
TINY = {
    "prompts.args": {"harmful": 10, "benign": 6, "arithmetic": 0, "fact": 0},
    "sample.samples": 2,
    "sample.slots": 32,
    "train.epochs": 1,
    "train.batch_traces": 8,
    "train.row_length": 144,
    "train.log_every": 1,
}
NAMED = {
    "train.objective": "my_loss:objective",
    "train.objective_args": {"gamma": 2},
    "filter.factory": "my_filter:short",
    "filter.args": {"limit": 32},
}


def arguments(workdir, *more: str) -> list[str]:
    """The command line of a tiny quickstart with the fork's loss and filter."""
    values = {f"--config.{key}={value}" for key, value in {**TINY, **NAMED}.items()}
    return [f"--config={ROOT / 'configs' / 'quickstart.py'}", f"--workdir={workdir}", *sorted(values), *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run whose loss and filter are the fork's."""
    workdir = tmp_path_factory.mktemp("fork")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FORK))
        main(["main", *arguments(workdir, "--stages=train")])
    return workdir


def test_the_loss_and_the_filter_of_a_fork_train_the_lab(run):
    rows = [json.loads(line) for line in next(run.glob("train-*/metrics.jsonl")).read_text().splitlines()]
    assert all("focal" in row and "nll" not in row for row in rows)
    report = json.loads((run / "report.json").read_text())
    kept, dropped = report["traces"]["kept"], report["traces"]["dropped"]
    assert sum(kept.values()) + sum(dropped.values()) == 32
    (shards,) = run.glob("filter-*/sft")
    lengths = [len(trace.completion_ids) for shard in find_shards(shards) for trace in read_shard(shard)]
    assert lengths and max(lengths) <= 32
    assert any("too long" in reason for reason in dropped), dropped


def test_the_reward_and_the_advantage_of_a_fork_credit_the_samples(run, monkeypatch):
    """What was sampled above is scored by the lab's guard, rewarded and compared within its prompt."""
    monkeypatch.syspath_prepend(str(FORK))
    reward = build("my_reward:reward", {"declining": 0.5})
    credit = build("my_advantage:advantage", {"weight": 0.2})
    rewards.check_reward("my_reward:reward", reward, {"guard": ("instructs", "declines")})
    advantages.check_transform("my_advantage:advantage", credit)

    chat, groups = Chat.from_pretrained(str(CHECKPOINT)), collections.defaultdict(list)
    for shard in find_shards(next(run.glob("sample-*"))):
        for trace in read_shard(shard):
            groups[trace.prompt_id].append(trace)
    traces = [trace for group in groups.values() for trace in group]
    texts = [chat.full_response(chat.completion_text(trace.completion_ids)) for trace in traces]
    scores = RuleGuard().score([trace.meta["prompt"] for trace in traces], texts)
    earned = [reward({"guard": score}) for score in scores]
    columns = rewards.arrays([earned[i : i + 2] for i in range(0, len(earned), 2)], parts=("safe", "declines"))
    lengths = np.array([len(trace.completion_ids) for trace in traces]).reshape(-1, 2)
    group = advantages.Group(**columns._asdict(), length_GxN=lengths)
    advantages.check(group)
    advantage = np.asarray(credit(group.reward_GxN, group))
    assert advantage.shape == (16, 2) and np.isfinite(advantage).all()
    same = (columns.reward_GxN[:, 0] == columns.reward_GxN[:, 1]) & columns.valid_GxN.all(1)
    shorter = lengths[:, 0] < lengths[:, 1]
    assert (same & shorter).any() and (advantage[same & shorter, 0] > 0).all()


@pytest.mark.slow
def test_a_fork_is_found_in_the_working_directory(tmp_path):
    """`python -m lrm_align.main` where the fork's files lie: nothing has to be installed."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lrm_align.main", *arguments(tmp_path / "run", "--dry_run")]
    done = subprocess.run(command, cwd=FORK, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my_loss:objective" in done.stdout and "training: at most" in done.stdout
