"""Separate jobs with a real model: the loop does not know where its groups come from."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from etils import epath

from lrm_align import objectives
from lrm_align.rl import sealed
from lrm_align.rl.follow import Sampler
from lrm_align.training import full
from tests.rl import apart, tiny
from tests.rl.apart import ABOUT, Clock


def separate(directory, tuning=tiny.LORA, count=1, sleep=None, settings=tiny.SETTINGS, **options):
    """Makes the source of a run whose samplers work while the trainer waits."""
    model, frozen = tiny.model()
    like = jax.eval_shape(lambda: tuning.init(jax.random.key(0), frozen))

    def make(collector):
        def attach(weights):
            return tuning.attach(jax.tree.map(jax.numpy.asarray, weights), frozen, None)

        samplers = [
            Sampler(directory, collector, like, attach, ABOUT, index, count, chunk=1, log=lambda line: None)
            for index in range(count)
        ]
        clock = Clock(*(sampler.turn for sampler in samplers))
        sizes = {"groups": settings.groups, "samples": settings.samples, "steps": settings.steps, "samplers": count}
        source = apart.trainer(directory, clock, **sizes, **options)
        source._sleep = sleep or clock.sleep
        return source

    del model
    return make


@pytest.mark.parametrize("tuning", [tiny.LORA, full()], ids=["lora", "full"])
def test_on_policy_groups_of_samplers_train_the_same_model_bit_for_bit(tmp_path, tuning):
    one = tiny.run(None, tuning=tuning)
    two = tiny.run(None, tuning=tuning, source=separate(epath.Path(tmp_path), tuning, count=2))
    jax.tree.map(np.testing.assert_array_equal, one.trainable, two.trainable)
    assert {row["staleness/max"] for row in two.rows} == {0.0}
    assert all(row["separate/stale"] == 0 and row["separate/wait_s"] > 0 for row in two.rows)


def test_older_policies_groups_are_corrected_by_truncated_weights(tmp_path):
    settings = dataclasses.replace(tiny.SETTINGS, steps=4, checkpoint_every=0)
    loss = objectives.grpo(correction=("token_truncate", 0.0, 2.0))
    run = tiny.run(
        None, settings, objective=loss, source=separate(epath.Path(tmp_path), settings=settings, max_staleness=1)
    )
    staleness = [row["staleness/max"] for row in run.rows]
    assert staleness == [0.0, 1.0, 1.0, 1.0]
    assert abs(run.rows[0]["correction/weight"] - 1) < 1e-5 < abs(run.rows[2]["correction/weight"] - 1)
    assert run.rows[2]["gap/mean"] > 10 * run.rows[0]["gap/mean"]


def test_sigterm_while_it_waits_saves_and_the_run_goes_on(tmp_path):
    whole = tiny.run(None)
    shared, workdir = epath.Path(tmp_path) / "shared", tmp_path / "run"
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=2)
    asked = []

    def sleep(seconds):
        if len(sealed.numbers(shared / "steps")) < 1:
            work(seconds)
        elif not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))

    made = separate(shared, settings=settings)
    clocks = []

    def first(collector):
        source = made(collector)
        clocks.append(source._sleep)
        source._sleep = sleep
        return source

    def work(seconds):
        clocks[0](seconds)

    lines = []
    with pytest.raises(SystemExit) as stop:
        tiny.run(workdir, settings, source=first, log=lines.append)
    assert stop.value.code == 143
    assert "SIGTERM: step 1 waited for 2 of 2 groups; step 1 is saved" in lines
    again = tiny.run(workdir, settings, source=separate(shared, settings=settings))
    assert [row["step"] for row in again.rows] == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, again.trainable, whole.trainable)
    rows = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert rows == [0, 1, 2]
