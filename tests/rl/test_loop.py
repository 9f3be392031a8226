"""The loop over policies: what a step trains on, what it shows, and that a kill changes nothing."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from lrm_align import advantages, objectives, processes
from lrm_align.errors import UserError
from lrm_align.rl import loop
from lrm_align.rl.settings import RLSettings
from lrm_align.sampling import programs
from lrm_align.scoring import Score
from lrm_align.training import full, make_mesh
from tests.rl import tiny


def assert_equal(one, other):
    """Bitwise equal trees."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one, other, rtol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5), one, other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three steps, and where it wrote."""
    directory = tmp_path_factory.mktemp("whole")
    return tiny.run(directory), directory


class Killed(BaseException):
    """Stands for SIGKILL: nothing is done on the way out."""


def rows(directory):
    """The rows of a file without what clocks say."""
    found = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    clocks = ("time/", "step_s", "completions_per_s")
    return [{name: value for name, value in row.items() if not name.startswith(clocks)} for row in found]


def killed(monkeypatch, at):
    """From now on a run dies at a step before it learns, and nothing of its `finally` is done."""
    from lrm_align.training.checkpoint import Checkpoints

    prepare, calls = loop.prepare, []

    def dies(*arguments):
        calls.append(None)
        if len(calls) == at:
            raise Killed
        return prepare(*arguments)

    monkeypatch.setattr(loop, "prepare", dies)
    monkeypatch.setattr(loop.Reporter, "close", lambda self: None)
    monkeypatch.setattr(Checkpoints, "close", Checkpoints.wait)


def test_a_killed_run_ends_as_if_it_had_not_been(whole, tmp_path, monkeypatch):
    learned, directory = whole
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed(patch, 3)
        tiny.run(tmp_path)
    again = tiny.run(tmp_path)
    assert [row["step"] for row in again.rows] == [2]
    assert_equal(again.trainable, learned.trainable)
    assert rows(tmp_path) == rows(directory) and len(rows(tmp_path)) == 3
    texts = [(path / "rollouts.jsonl").read_text() for path in (directory, tmp_path)]
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 6))
def test_rows_wherever_it_is_killed(tmp_path, monkeypatch, at):
    settings = dataclasses.replace(tiny.SETTINGS, steps=5, checkpoint_every=2, log_every=1)
    tiny.run(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed(patch, at)
        tiny.run(tmp_path / "killed", settings)
    tiny.run(tmp_path / "killed", settings)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    texts = [(tmp_path / name / "rollouts.jsonl").read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1]


def test_a_step_shows_what_people_watch(whole):
    _, directory = whole
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    wanted = {
        "gap/mean", "gap/p99", "gap/max", "staleness/mean", "groups/without_spread", "samples/truncated",
        "reward/part/low", "reward/mean", "kl/old", "clip/low", "clip/high", "length/mean", "lengths", "time/rollout",
        "time/train", "time/other", "completions_per_s", "ratio/p50",
    }  # fmt: skip
    assert wanted <= set(rows[0])
    for row in rows:
        assert row["gap/mean"] < 1e-5, "the sampler and the learner are the same model"
        assert row["kl/old"] == pytest.approx(0, abs=1e-6)
        assert row["staleness/max"] == 0
    kept = [json.loads(line) for line in (directory / "rollouts.jsonl").read_text().splitlines()]
    assert {row["step"] for row in kept} == {0, 1, 2} and all(row["prompt"] for row in kept)


@pytest.mark.slow
def test_it_learns():
    settings = dataclasses.replace(tiny.SETTINGS, steps=40, groups=4, samples=8, checkpoint_every=0, piece_rows=4)
    learned = tiny.run(None, settings, of=tiny.task(samples=8), tuning=full())
    reward = [row["reward/mean"] for row in learned.rows]
    assert np.mean(reward[-3:]) > np.mean(reward[:3]) + 0.25


def test_nothing_recompiles(whole):
    before = programs.decode._cache_size(), programs.read_prompts._cache_size(), programs.insert._cache_size()
    tiny.run(None, dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, seed=1))
    assert (programs.decode._cache_size(), programs.read_prompts._cache_size(), programs.insert._cache_size()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"piece_rows": 8}, marks=pytest.mark.slow, id="one piece"),
        pytest.param({"piece_rows": 1}, marks=pytest.mark.slow, id="row by row"),
        pytest.param({"row_length": 48, "max_segments": 1}, id="a trace a row"),
    ],
)
def test_packing_and_pieces_change_nothing(whole, changes):
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=1, **changes)
    one = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=1)
    assert_close(tiny.run(None, settings).trainable, tiny.run(None, one).trainable, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [tiny.LORA, full(reference=True)], ids=["lora", "full"])
def test_eight_devices_are_one(tuning):
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=1, piece_rows=4)
    objective = objectives.grpo(kl_weight=0.1)
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    one, eight = (tiny.run(None, settings, tuning=tuning, objective=objective, mesh=m) for m in (None, mesh))
    assert one.rows[0]["reward/mean"] == pytest.approx(eight.rows[0]["reward/mean"], abs=1e-6)
    assert one.rows[0]["grad_norm"] == pytest.approx(eight.rows[0]["grad_norm"], rel=1e-3)
    assert eight.rows[0]["gap/mean"] < 1e-5


@pytest.mark.slow
def test_inner_epochs_and_minibatches_move_away_from_the_old_policy():
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=1, inner_epochs=2, minibatches=2)
    row = tiny.run(None, settings).rows[0]
    assert row["kl/old"] > 1e-6
    assert row["gap/mean"] < 1e-5, "the gap is that of the policy that the step started from"


@pytest.mark.slow
def test_the_samplers_log_probabilities_serve_as_the_old_ones():
    one, other = (
        tiny.run(None, dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=2, old_logp=old)).rows[-1]
        for old in ("sampler", "recomputed")
    )
    for name in ("reward/mean", "grad_norm", "loss"):
        assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_kl_in_the_reward_and_a_reference_that_follows(tmp_path):
    settings = dataclasses.replace(tiny.SETTINGS, kl_in_reward=True, sync_every=2, mixup=0.5, checkpoint_every=1)
    credit = advantages.chain(advantages.kl_in_reward(0.1), advantages.grpo())
    objective = objectives.grpo(kl_weight=0.1)
    learned = tiny.run(tmp_path, settings, advantage=credit, objective=objective)
    assert all(np.isfinite(row["kl/reference"]) for row in learned.rows)
    # The reference is in the checkpoint: a finished run read again has nothing to do and the same weights.
    again = tiny.run(tmp_path, settings, advantage=credit, objective=objective)
    assert_equal(again.trainable, learned.trainable)


class Flat:
    """The same for every sample of a prompt; prompts of one label have spread."""

    name, version = "low", "1"

    def grade(self, rollouts):
        return [Score(float(r.trace.sample) if r.prompt.label == "benign" else 1.0) for r in rollouts]


@pytest.mark.parametrize(("max_refills", "trained"), [(0, 1), (6, 2)], ids=["no refills", "enough refills"])
def test_groups_without_spread_are_replaced(max_refills, trained):
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=3, dynamic=True, minibatches=2)
    lines: list[str] = []
    learned = tiny.run(None, settings, of=tiny.task(Flat()), max_refills=max_refills, log=lines.append)
    assert [row["groups/trained"] for row in learned.rows] == [trained] * 3
    assert all(row.get("groups/without_spread", 0) == 0 for row in learned.rows)
    if max_refills:
        assert sum(row["groups/dropped"] for row in learned.rows) > 0
    # A minibatch without groups is no update, and the step says so.
    assert [row["updates/skipped"] for row in learned.rows] == [2 - trained] * 3
    said = "of 2, 1 update had a gradient of exactly zero: weights and optimizer stayed as they were"
    assert sum(said in line for line in lines) == 3 * (2 - trained)


@pytest.mark.slow
def test_truncated_samples_can_be_masked():
    settings = dataclasses.replace(tiny.SETTINGS, checkpoint_every=0, steps=1)
    lines = []
    learned = tiny.run(None, settings, objective=objectives.dapo(masks=["truncated"]), log=lines.append)
    assert learned.rows[0]["samples/truncated"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "rl.samples is 1; a group needs at least 2"),
        ({"minibatches": 3}, "rl.minibatches is 3, which does not divide config.rl.groups, 2"),
        ({"old_logp": "old"}, "rl.old_logp is 'old'; supported are recomputed, sampler, none"),
        ({"old_logp": "none", "inner_epochs": 2}, '"none" with 2 updates a step'),
        ({"temperature": 0.0}, "temperature is 0.0; greedy samples of a prompt are all alike"),
        ({"steps": 0}, "rl.steps is 0"),
    ],
)
def test_wrong_numbers_end_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        RLSettings(**{**dataclasses.asdict(tiny.SETTINGS), **changes})


def test_a_signal_of_the_last_step_is_not_lost(tmp_path, monkeypatch):
    """Several processes hear of one a step later; there is no step after the last."""
    monkeypatch.setattr(processes.Highest, "of", lambda self, mine: 0)
    prepare = loop.prepare

    def signalled(learner, *arguments):
        if learner.step == tiny.SETTINGS.steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return prepare(learner, *arguments)

    monkeypatch.setattr(loop, "prepare", signalled)
    with pytest.raises(processes.AllStop, match="step 3 is saved") as stopped:
        tiny.run(tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
