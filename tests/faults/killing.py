"""A trainer and samplers as processes, any of which is killed at any moment and started again: run by a test.

    python -m tests.faults.killing DIRECTORY STEPS SAMPLERS STALENESS KILLS SEED

Without a model: what is under test is what the jobs share. Processes are forked, before anything has threads, since
starting one anew takes seconds.
"""

import json
import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Callable

import jax

from lrm_align.rl.follow import follow
from tests.rl import apart

EVERY = 3  # steps between two checkpoints of the trainer


def train(directory: pathlib.Path, steps: int, samplers: int, staleness: int) -> None:
    """Trains from the last checkpoint on, and notes what each step used before anything can kill it."""
    checkpoint, notes = directory / "checkpoint", directory / "applied.jsonl"
    begin = int(checkpoint.read_text()) if checkpoint.exists() else 0
    shared = directory / "shared"
    options = {"steps": steps, "samplers": samplers, "max_staleness": staleness, "patience": 2.0}
    source = apart.trainer(shared, **options)
    for step in range(begin, steps):
        taken = source.take(step, apart.params(step), lambda group: group.ticket % 5 > 0)
        line = {"step": step, "used": [[group.ticket, group.policy] for group in taken.groups]}
        with notes.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if step == 1 and not (directory / "killed").exists():  # once at least between a record and its checkpoint
            (directory / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        if (step + 1) % EVERY == 0:
            (directory / "scratch").write_text(str(step + 1))
            (directory / "scratch").rename(checkpoint)
    source.close()


def sample(directory: pathlib.Path, index: int, count: int) -> None:
    """Samples slowly."""
    collector = apart.Collector(before=lambda ticket: time.sleep(0.004))
    shared = directory / "shared"
    follow(
        apart.sampler(shared, index, count, collector=collector), shared, index, count,
        poll=0.05, beat=0.2, log=lambda line: None,
    )  # fmt: skip


def fork(job: Callable[[], None]) -> int:
    """Starts a process that does a job; its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        job()
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Kills, and starts again what was killed, until the trainer has finished."""
    jax.process_count = lambda: 1  # nothing here computes, and looking for devices takes a second in each process
    directory = pathlib.Path(sys.argv[1])
    steps, samplers, staleness, kills, seed = map(int, sys.argv[2:])
    draw = random.Random(seed)
    jobs: list[Callable[[], None]] = [lambda: train(directory, steps, samplers, staleness)]
    jobs += [lambda index=index: sample(directory, index, samplers) for index in range(samplers)]
    running = dict(enumerate(map(fork, jobs)))
    killed = 0
    while running:
        time.sleep(draw.uniform(0.0, 0.12))
        for number, process in list(running.items()):
            found, status = os.waitpid(process, os.WNOHANG)
            if found and status == signal.SIGKILL:
                running[number] = fork(jobs[number])
            elif found:
                assert status == 0, f"job {number} ended with {status}"
                del running[number]
        if killed < kills and 0 in running:
            number = draw.choice(sorted(running))
            os.kill(running[number], signal.SIGKILL)
            os.waitpid(running[number], 0)
            running[number] = fork(jobs[number])
            killed += 1
    print(killed)


if __name__ == "__main__":
    main()
