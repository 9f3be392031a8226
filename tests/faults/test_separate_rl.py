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
    steps, kills = 16, 10
    numbers = map(str, (steps, samplers, staleness, kills, seed))
    command = [sys.executable, "-m", "tests.faults.killing", str(tmp_path), *numbers]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4  # kills: fewer where the jobs are done sooner
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


PATIENT = """
import sys
from importlib import import_module
from lrm_align.rl import beats
beats.PATIENCE = 3600.0  # on a busy machine starting anew takes longer than others should wait
import_module(f"lrm_align.{sys.argv[1]}").main(sys.argv[1:])
"""


def start(command: str, workdir: pathlib.Path, *flags: str) -> subprocess.Popen:
    """A command on a small run of the lab's arithmetic."""
    sizes = {"steps": 5, "groups": 2, "samples": 4, "sampling.slots": 8, "checkpoint_every": 4, "lora.rank": 4}
    small = [f"--config.rl.{name}={value}" for name, value in sizes.items()]
    config = f"--config={ROOT / 'configs' / 'lab_arithmetic.py'}"
    environment = {**ENVIRONMENT, "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    line = [sys.executable, "-c", PATIENT, command, config, f"--workdir={workdir}", *small, *flags]
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen(line, env=environment, cwd=ROOT, stdout=log, stderr=log)


def wait_for(process: subprocess.Popen, path: pathlib.Path, pattern: str) -> None:
    """Until there is such a file."""
    for _ in range(12000):
        if list(path.glob(pattern)):
            return
        assert process.poll() is None, f"ended with {process.returncode} before {pattern} was there"
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} in ten minutes")


@pytest.mark.slow
def test_on_policy_samplers_and_a_trainer_that_are_killed_train_the_colocated_model(tmp_path):
    """Real commands, the lab's model: bit for bit what one program trains that nobody kills."""
    whole = start("main", tmp_path / "one", "--stages=export")
    assert whole.wait(900) == 0, (tmp_path / "one.log").read_text()
    here, log = tmp_path / "two", tmp_path / "two.log"
    separate = ["--config.rl.mode=separate", "--config.rl.sampler_count=2"]
    trainer = start("main", here, *separate, "--stages=export")
    wait_for(trainer, here, "*/shared/policies/00000000.json")
    second = start("main", here, *separate)
    assert second.wait(600) == 2 and "error: a run (process" in log.read_text()
    samplers = [start("sample", here, *separate, "--follow", f"--sampler={index}/2") for index in range(2)]
    wait_for(samplers[0], here, "*/shared/groups/*/ticket-*.manifest.json")
    samplers[0].kill()
    assert samplers[0].wait() == -signal.SIGKILL
    samplers[0] = start("sample", here, *separate, "--follow", "--sampler=0/2")
    wait_for(trainer, here, "*/shared/steps/00000001.json")
    trainer.kill()  # after a record, before any checkpoint
    assert trainer.wait() == -signal.SIGKILL and not list(here.glob("*/checkpoints/[0-9]*"))
    trainer = start("main", here, *separate, "--stages=export")
    assert [job.wait(900) for job in (trainer, *samplers)] == [0, 0, 0], log.read_text()
    [one], [two] = (list(tmp_path.glob(f"{name}/export-*/model/model.safetensors")) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    asked = start("sample", here, *separate, "--follow", "--sampler=0/2", "--config.rl.sampling.top_k=5")
    assert asked.wait(600) == 2 and "config.rl.sampling.top_k is 0 there and 5 here" in log.read_text()
