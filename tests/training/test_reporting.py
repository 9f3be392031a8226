"""Metrics that are vectors, and weights that follow the step, through the training step and into the files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_align import objectives
from lrm_align.errors import UserError
from lrm_align.objectives import histogram
from lrm_align.training import full, make_step, metrics
from lrm_align.training.optimizers import Optimizer
from lrm_align.training.state import init_state
from tests.training import tiny

SCALARS = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0, "update_norm": 1.0, "lr": 0.1}
SCALARS |= {"tokens": 1.0, "trained_tokens": 1.0, "attended": 1.0, "skipped": 0.0}


def test_histograms_reach_the_files(tmp_path):
    window = metrics.Window()
    for at in (16, 17):
        counts = np.eye(histogram.BINS, dtype=np.float32)[at]
        objective = {"a/ratio/histogram": (3 * counts, np.float32(3)), "nll": (np.float32(2), np.float32(4))}
        window.add(0, SCALARS | {"objective": objective | {"none/histogram": (0 * counts, np.float32(0))}})
    row = window.row(8, lambda tokens, attended: 0.0, None)
    assert row["nll"] == 0.5 and set(window.counts) == {"a/ratio/histogram"}
    assert histogram.EDGES[15] <= row["a/ratio/p05"] < row["a/ratio/p95"] <= histogram.EDGES[17]
    writer = metrics.Writer(tmp_path)
    writer.write(0, row, window.counts)
    writer.close()
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["a/ratio/histogram"][16:18] == [3, 3] and sum(found["a/ratio/histogram"]) == 6
    assert found["a/ratio/p50"] == row["a/ratio/p50"] and any(tmp_path.glob("events.*"))


def test_other_vectors_are_refused():
    window = metrics.Window()
    window.add(0, SCALARS | {"objective": {"own": (np.zeros(3), np.float32(1))}})
    with pytest.raises(UserError, match=r"the sum of 'own' has the shape \(3,\); a scalar, or the 33 counts"):
        window.row(8, lambda tokens, attended: 0.0, None)


def test_the_step_hands_out_its_number_and_adds_vectors():
    policy = objectives.dapo(masks=[("top_entropy", 0.5)], watch=["kl"])
    warm = objectives.schedules.linear(0.0, 1.0, steps=4)
    objective = objectives.combine({"policy": (warm, policy)})
    descent = Optimizer(optax.sgd(0.0), optax.constant_schedule(0.0))
    batch = tiny.batch(0)
    advantage = np.random.default_rng(0).normal(size=batch.tokens_BxT.shape).astype(np.float32)
    batch = batch.replace(advantage_BxT=advantage)
    step = jax.jit(make_step(tiny.MODEL, objective, descent, full(), micro_batches=2, chunk=None))
    params = tiny.MODEL.init(jax.random.key(0))
    state = init_state(jax.random.key(1), params, full(), descent.transform)
    reports = [step(state._replace(step=jnp.int32(number)), None, batch)[1] for number in (0, 2, 4)]
    losses = [float(report["loss"]) for report in reports]
    assert losses[0] == 0 and losses[2] != 0
    np.testing.assert_allclose(losses[1], losses[2] / 2, rtol=1e-5)
    counts, total = reports[0]["objective"]["policy/ratio/histogram"]
    assert counts.shape == (histogram.BINS,) and total == batch.loss_mask_BxT.sum() == counts[16]
