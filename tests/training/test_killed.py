"""Killed anywhere, a run's rows are those of one that nothing disturbed; and no file on the way is fatal."""

import json

import jax
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.training import OptimizerSettings, TrainSettings, full, lora, metrics, sharding, train
from lrm_align.training.checkpoint import Checkpoints
from tests.pair_batches import batch_of
from tests.training import tiny

STEPS = 9
TIMES = ("step_s", "tokens_per_s", "trained_tokens_per_s", "slot_tokens_per_s")


class Killed(BaseException):
    """Stands for SIGKILL: nothing is done on the way out."""


class Killing(tiny.Loader):
    """Dies when the batch of a step is asked for."""

    def __init__(self, at=None, batch=tiny.batch):
        super().__init__(STEPS)
        self._at, self._batch = at, batch

    def batch(self, step):
        return self._batch(step)

    def steps(self, start=0):
        for step in range(start, STEPS):
            if step == self._at:
                raise Killed
            yield self.batch(step)


@pytest.fixture(autouse=True)
def dies(monkeypatch):
    """What stands in a `finally` is not done by a killed process; programs are compiled once."""
    made, compile_step = {}, sharding.compile_step

    def compiled(step_fn, state, *rest):
        key = jax.tree.structure(state)
        if key not in made:
            made[key] = compile_step(step_fn, state, *rest)
        return made[key]

    monkeypatch.setattr(sharding, "compile_step", compiled)
    monkeypatch.setattr(metrics, "_SECONDS_BETWEEN_WRITES", 1e9)
    monkeypatch.setattr(metrics.Reporter, "close", lambda self: self.settle())
    monkeypatch.setattr(Checkpoints, "close", Checkpoints.wait)


def run(workdir, at=None, batch=tiny.batch, objective=None, tuning=None, log=lambda line: None):
    """A run with a row of every third step and a checkpoint after every second."""
    return train(
        tiny.MODEL,
        tiny.MODEL.init(jax.random.key(1)),
        objective or objectives.sft(),
        Killing(at, batch),
        tuning=tuning or lora(2, 4.0),
        optimizer=OptimizerSettings(learning_rate=1e-2),
        settings=TrainSettings(checkpoint_every=2, log_every=3, keep=2),
        workdir=workdir,
        log=log,
    )


def rows(workdir):
    """The rows of a file without what clocks say."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in found:
        assert all(row.pop(name) > 0 for name in TIMES)
    return found


def check(tmp_path, kills, **options):
    run(tmp_path / "whole", **options)
    for at in kills:
        with pytest.raises(Killed):
            run(tmp_path / "killed", at, **options)
    run(tmp_path / "killed", **options)
    wanted = rows(tmp_path / "whole")
    assert [row["step"] for row in wanted] == [2, 5, 8]
    assert rows(tmp_path / "killed") == wanted


def test_rows_are_those_of_an_undisturbed_run(tmp_path):
    check(tmp_path, [3, 8])


@pytest.mark.slow
@pytest.mark.parametrize("at", range(STEPS))
@pytest.mark.parametrize("kind", ["sft", "full", "histograms", "dpo"])
def test_rows_wherever_it_is_killed(tmp_path, kind, at):
    options = {
        "sft": {},
        "full": {"tuning": full()},
        "histograms": {"objective": objectives.dapo(watch=["kl"]), "batch": with_advantage},
        "dpo": {"objective": objectives.preference(), "batch": pairs},
    }[kind]
    check(tmp_path, [at], **options)


def pairs(step):
    tokens = np.random.default_rng(step).integers(1, tiny.CONFIG.vocab_size, (8, 7)).astype(np.int32)
    return batch_of(np.ones(tokens.shape, np.float32), tokens)


def with_advantage(step):
    batch = tiny.batch(step)
    advantage = np.random.default_rng(step).normal(size=batch.tokens_BxT.shape).astype(np.float32)
    return batch.replace(advantage_BxT=advantage)


@pytest.mark.parametrize(
    "tail",
    [b'{"step": 8, "lo', b"\n\n", b'{"step": "x"}\n', b"3\n[]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"],
    ids=range(6),
)
def test_what_a_cut_left_is_dropped(tmp_path, tail):
    path = tmp_path / metrics.FILE
    path.write_bytes(b'{"step": 2, "loss": 1.0}\n{"step": 5, "loss": 2.0}\n' + tail)
    writer = metrics.Writer(tmp_path, 5)
    writer.write(5, {"loss": 3.0})
    writer.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 2, "loss": 1.0},
        {"step": 5, "loss": 3.0},
    ]


def test_a_checkpoint_of_an_earlier_version_begins_a_window(tmp_path, monkeypatch):
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, report=None: save(self, state))
    with pytest.raises(Killed):
        run(tmp_path, 5)
    run(tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [2, 5, 8]
