"""Runs end as they should: resumed as if never stopped; stopped by SIGTERM, a NaN, damage, a wrong checkpoint."""

import dataclasses
import json
import os
import pathlib
import signal

import jax
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.errors import UserError
from lrm_align.training import (
    NotFiniteError,
    OptimizerSettings,
    TrainSettings,
    full,
    lora,
    make_mesh,
    train,
)
from tests.training import tiny

STEPS = 5
TUNINGS = {"lora": lora(2, 4.0, dropout=0.1), "full": full()}


class Stopping(tiny.Loader):
    """Raises at a step, calls something at another."""

    def __init__(self, num_steps, at, action, rows=4):
        super().__init__(num_steps, rows)
        self._at, self._action = at, action

    def steps(self, start=0):
        for step in range(start, len(self)):
            if step == self._at:
                self._action()
            yield self.batch(step)


def run(workdir, loader=None, tuning="lora", **options):
    settings = TrainSettings(checkpoint_every=2, log_every=2, keep=2)
    params = tiny.MODEL.init(jax.random.key(1))
    options = {"optimizer": OptimizerSettings(learning_rate=1e-2, weight_decay=0.1), **options}
    return train(
        options.pop("model", tiny.MODEL),
        options.pop("params", params),
        objectives.sft(),
        tiny.Loader(STEPS) if loader is None else loader,
        tuning=TUNINGS[tuning],
        settings=settings,
        workdir=workdir,
        **options,
    )


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run; tests copy what they change."""
    return run(tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_and_resumed_is_uninterrupted(tmp_path, finished, number, status):
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit, match="step 4 is saved; the same command goes on") as stopped:
        run(tmp_path, Stopping(STEPS, 3, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.code == status
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    lines = []
    resumed = run(tmp_path, log=lines.append)
    assert f"resumed after step 4 of {STEPS}" in lines
    assert same(resumed.trainable, finished.trainable)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3, 4]
    again = run(tmp_path)
    assert same(again.trainable, finished.trainable) and not again.rows


def test_damaged_checkpoint_is_skipped(tmp_path, finished):
    def fail():
        raise RuntimeError("out of power")

    with pytest.raises(RuntimeError, match="power"):
        run(tmp_path, Stopping(STEPS, 4, fail))
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda p: int(p.name))
    assert newest.name == "4"
    for file in (p for p in (newest / "state").rglob("d/*") if p.stat().st_size > 100):
        data = bytearray(file.read_bytes())
        for at in range(64, len(data), 64):
            data[at] ^= 16
        file.write_bytes(data)
    lines = []
    resumed = run(tmp_path, log=lines.append)
    assert any("checkpoints/4 is damaged" in line for line in lines)
    assert f"resumed after step 2 of {STEPS}" in lines
    assert same(resumed.trainable, finished.trainable)


def test_nan_stops_and_the_last_checkpoint_stays(tmp_path):
    params = tiny.MODEL.init(jax.random.key(1))
    big = OptimizerSettings(learning_rate=1e38, schedule="constant", warmup=0.0, clip=0.0)
    with pytest.raises(NotFiniteError, match=r"step \d gave .*nan|inf"):
        run(tmp_path, tiny.Loader(STEPS), "full", optimizer=big, params=params)
    kept = [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert not kept


def test_checkpoint_of_another_model_is_refused(tmp_path, finished):
    run(tmp_path, tiny.Loader(1))
    other = dataclasses.replace(tiny.MODEL, config=dataclasses.replace(tiny.CONFIG, norm_eps=1e-5))
    with pytest.raises(UserError, match=r"of another model: model.rms_norm_eps is 1e-06 there and 1e-05 here"):
        run(tmp_path, tiny.Loader(1), model=other)
    with pytest.raises(UserError, match=r"more.base is None there and 'x' here"):
        run(tmp_path, tiny.Loader(1), identity={"base": "x"})


def test_other_topology_resumes(tmp_path, finished):
    def fail():
        raise RuntimeError("moved")

    with pytest.raises(RuntimeError, match="moved"):
        run(tmp_path, Stopping(STEPS, 4, fail))
    resumed = run(tmp_path, mesh=make_mesh({"data": 2, "tensor": 2}))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), resumed.trainable, finished.trainable)


def test_start_parameters_stay_usable():
    params = tiny.MODEL.init(jax.random.key(1))
    before = jax.tree.map(np.array, params)
    train(tiny.MODEL, params, objectives.sft(), tiny.Loader(1), tuning=full(), log=lambda line: None)
    assert same(params, before)


def test_user_errors():
    params = jax.eval_shape(tiny.MODEL.init, jax.random.key(0))

    def refused(match, loader=None, **options):
        with pytest.raises(UserError, match=match):
            train(tiny.MODEL, params, objectives.sft(), tiny.Loader(1) if loader is None else loader, **options)

    refused("loader has no batch", tiny.Loader(0))
    refused(r"4 rows does not divide into 3 micro-batches", settings=TrainSettings(micro_batches=3))
    refused(r"4 rows does not divide .* 8 × 1", mesh=make_mesh({"data": 8}))
    refused("tensor = 4 does not divide the model's key-value heads, 2", mesh=make_mesh({"tensor": 4}))
    refused("learning_rate is 0.0", optimizer=OptimizerSettings(learning_rate=0.0))

    class Unmasked(tiny.Loader):
        def batch(self, step):
            return tiny.batch(step).replace(loss_mask_BxT=np.zeros((4, 16), np.float32))

    refused("all zero", Unmasked(1))


def test_file_of_metrics_is_plain(tmp_path):
    run(tmp_path, tiny.Loader(3))
    rows = [json.loads(line) for line in pathlib.Path(tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert {"loss", "nll", "grad_norm", "update_norm", "param_norm", "lr", "tokens_per_s", "slot_tokens_per_s"} <= {
        *rows[0]
    }
    assert "mfu" not in rows[0]  # a CPU has no peak in the table
    assert list(tmp_path.glob("events.*"))
