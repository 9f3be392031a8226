"""Separate jobs with a real model: the loop does not know where its groups come from."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from etils import epath

from lrm_align import advantages, objectives
from lrm_align.rl import sealed
from lrm_align.rl.follow import Sampler
from lrm_align.rl.loop import reinforce
from lrm_align.rl.task import Tickets
from lrm_align.training import full
from tests.rl import apart, tiny
from tests.rl.apart import ABOUT, Clock


def separate(directory, tuning=tiny.LORA, count=1, settings=tiny.SETTINGS, work=lambda turn: turn(), **options):
    """Makes the source of a run whose samplers work while the trainer waits."""
    _, frozen = tiny.model()
    like = jax.eval_shape(lambda: tuning.init(jax.random.key(0), frozen))

    def make(collector):
        def attach(weights):
            return tuning.attach(jax.tree.map(jax.numpy.asarray, weights), frozen, None)

        samplers = [
            Sampler(directory, collector, like, attach, ABOUT, index, count, chunk=1, log=lambda line: None)
            for index in range(count)
        ]
        clock = Clock(*(lambda sampler=sampler: work(sampler.turn) for sampler in samplers))
        sizes = {"groups": settings.groups, "samples": settings.samples, "steps": settings.steps, "samplers": count}
        return apart.trainer(directory, clock, **sizes, **options)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [tiny.LORA, full()], ids=["lora", "full"])
def test_on_policy_groups_of_samplers_train_the_same_model_bit_for_bit(tmp_path, tuning):
    one = tiny.run(None, tuning=tuning)
    two = tiny.run(None, tuning=tuning, source=separate(epath.Path(tmp_path), tuning, count=2))
    jax.tree.map(np.testing.assert_array_equal, one.trainable, two.trainable)
    assert {row["staleness/max"] for row in two.rows} == {0.0}
    assert all(row["separate/stale"] == 0 and row["separate/wait_s"] > 0 for row in two.rows)


@pytest.mark.slow
def test_older_policies_groups_are_corrected_by_truncated_weights(tmp_path):
    settings = dataclasses.replace(tiny.SETTINGS, steps=4, checkpoint_every=0)
    loss = objectives.grpo(correction=("token_truncate", 0.0, 2.0))
    run = tiny.run(
        None, settings, objective=loss, source=separate(epath.Path(tmp_path), settings=settings, max_staleness=1)
    )
    # Samplers work while the trainer waits, and then as far as they may: every other step finds its groups there.
    assert [row["staleness/max"] for row in run.rows] == [0.0, 1.0, 0.0, 1.0]
    fresh, stale = run.rows[2], run.rows[3]
    assert abs(fresh["correction/weight"] - 1) < 1e-5 < abs(stale["correction/weight"] - 1)
    assert stale["gap/mean"] > 10 * fresh["gap/mean"]


def test_sigterm_ends_the_waiting(tmp_path):
    class Learner:
        """One that resumed after a step, and has nothing to do."""

        step, closed, report = 1, False, None

        def params(self):
            return apart.params(1)

        def close(self):
            self.closed = True

    done = apart.trainer(tmp_path / "shared", Clock(apart.sampler(tmp_path / "shared").turn), groups=2)
    done.take(0, apart.params(0), apart.accept)
    learner, task, lines = Learner(), tiny.task(), []
    source = apart.trainer(tmp_path / "shared", Clock(lambda: os.kill(os.getpid(), signal.SIGTERM)), groups=2)
    tickets = Tickets(task.prompts, 0)
    with pytest.raises(SystemExit) as stop:
        reinforce(
            learner, source, task, tickets, advantages.grpo(), tiny.SETTINGS, tiny.chat(),
            workdir=epath.Path(tmp_path), log=lines.append,
        )  # fmt: skip
    assert stop.value.code == 143 and learner.closed
    assert stop.value.kept == "step 1 waited for 2 of 2 groups; step 1 is saved; the same command goes on"


@pytest.mark.slow
def test_sigterm_while_it_waits_saves_and_the_run_ends_as_one_program_would(tmp_path):
    whole = tiny.run(None)
    shared, workdir = epath.Path(tmp_path) / "shared", tmp_path / "run"
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=2)

    def work(turn):
        """Samples for the first step; SIGTERM comes during the second."""
        return os.kill(os.getpid(), signal.SIGTERM) if sealed.numbers(shared / "steps") else turn()

    lines = []
    with pytest.raises(SystemExit) as stop:
        tiny.run(workdir, settings, source=separate(shared, work=work), log=lines.append)
    assert stop.value.code == 143
    assert stop.value.kept == "step 1 waited for 2 of 2 groups; step 1 is saved; the same command goes on"
    again = tiny.run(workdir, settings, source=separate(shared, settings=settings))
    assert [row["step"] for row in again.rows] == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, again.trainable, whole.trainable)
    rows = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert rows == [0, 1, 2]
