"""Trainer and samplers as processes, killed at any moment: nothing finished is lost, nothing is doubled."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from lrm_align.rl import group_shards, orders, sealed
from tests.rl import apart

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize(
    "samplers, staleness, seed",
    [
        (2, 1, 0),
        *(pytest.param(n, s, seed, marks=pytest.mark.slow) for n, s, seed in [(1, 0, 1), (3, 2, 2), (2, 0, 3)]),
    ],
)
def test_killed_at_any_moment_and_started_again_each_group_is_used_once(tmp_path, samplers, staleness, seed):
    steps, kills = 8, 10
    numbers = map(str, (steps, samplers, staleness, kills, seed))
    command = [sys.executable, "-m", "tests.faults.killing", str(tmp_path), *numbers]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6  # kills
    shared = epath.Path(tmp_path / "shared")
    records = [sealed.read(shared / "steps" / sealed.name(step), "lrm_align.step/1") for step in range(steps)]
    settled = [t for record in records for name in ("used", "dropped", "stale", "given_up") for t in record[name]]
    assert len(settled) == len(set(settled)) and not any(record["damaged"] for record in records)
    applied = [json.loads(line) for line in (tmp_path / "applied.jsonl").read_text().splitlines()]
    assert len(applied) > steps and {line["step"] for line in applied} == set(range(steps))
    for line in applied:
        step = line["step"]
        assert [ticket for ticket, _ in line["used"]] == records[step]["used"]  # the same ones each time
        assert all(0 <= step - policy <= staleness for _, policy in line["used"])
    whole = group_shards.finished(shared / "groups", 0, orders.newest(shared / "orders").until)
    for ticket in whole:
        shard = group_shards.find(shared / "groups", ticket)
        group = group_shards.read(shard, ticket)
        assert group == apart.group(ticket, group.policy)
    assert orders.newest(shared / "orders").stop


def start(command: str, workdir: pathlib.Path, *flags: str) -> subprocess.Popen:
    """A command on a small run of the lab's arithmetic."""
    sizes = {"steps": 4, "groups": 2, "samples": 4, "sampling.slots": 8, "checkpoint_every": 3, "lora.rank": 4}
    small = [f"--config.rl.{name}={value}" for name, value in sizes.items()]
    config = f"--config={ROOT / 'configs' / 'lab_arithmetic.py'}"
    environment = {**ENVIRONMENT, "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    line = [sys.executable, "-m", f"lrm_align.{command}", config, f"--workdir={workdir}", *small, *flags]
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen(line, env=environment, cwd=ROOT, stdout=log, stderr=log)


def wait_for(process: subprocess.Popen, path: pathlib.Path, pattern: str, count: int = 1) -> None:
    """Until as many files are there."""
    for _ in range(6000):
        if len(list(path.glob(pattern))) >= count:
            return
        assert process.poll() is None, f"ended with {process.returncode} before {pattern} was there"
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} in ten minutes")


@pytest.mark.slow
def test_on_policy_samplers_and_a_trainer_that_are_killed_train_the_colocated_model(tmp_path):
    """Real commands, the lab's model: bit for bit what one program trains that nobody kills."""
    whole = start("main", tmp_path / "one", "--stages=export")
    assert whole.wait(900) == 0, (tmp_path / "one.log").read_text()
    apart, separate = tmp_path / "two", ["--config.rl.mode=separate", "--config.rl.sampler_count=2"]
    samplers = [start("sample", apart, *separate, "--follow", f"--sampler={index}/2") for index in range(2)]
    trainer = start("main", apart, *separate, "--stages=export")
    wait_for(samplers[0], apart, "reinforce-*/shared/groups/*/ticket-*.manifest.json")
    samplers[0].kill()
    assert samplers[0].wait() == -signal.SIGKILL
    wait_for(trainer, apart, "reinforce-*/shared/policies/00000001.json")
    second = start("main", apart, *separate)
    assert second.wait(300) == 2 and "a run (process" in (tmp_path / "two.log").read_text()
    samplers[0] = start("sample", apart, *separate, "--follow", "--sampler=0/2")
    wait_for(trainer, apart, "reinforce-*/shared/steps/00000001.json")
    trainer.kill()  # after a record, before any checkpoint
    assert trainer.wait() == -signal.SIGKILL and not list(apart.glob("reinforce-*/checkpoints/[0-9]*"))
    trainer = start("main", apart, *separate, "--stages=export")
    log = tmp_path / "two.log"
    assert [job.wait(900) for job in (trainer, *samplers)] == [0, 0, 0], log.read_text()
    [one], [two] = (list(tmp_path.glob(f"{name}/export-*/model/model.safetensors")) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    stranger = start("sample", apart, *separate, "--follow", "--sampler=0/2", "--config.model.path=/nowhere")
    assert stranger.wait(300) == 2
    stranger = start("sample", apart, *separate, "--follow", "--sampler=0/2", "--config.rl.sampling.top_k=5")
    assert stranger.wait(300) == 2 and "config.rl.sampling.top_k is 0 there and 5 here" in log.read_text()
