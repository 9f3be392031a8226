"""What must change no loss and no gradient. A new objective joins with one line in `OBJECTIVES`.

All objectives are evaluated at once, as a sum with weights of no common measure: metrics are compared one by
one, gradients in that sum.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.models import Model
from lrm_align.training import full, make_mesh, make_step, sharding
from lrm_align.training.optimizers import Optimizer
from lrm_align.training.scores import batch_scores
from lrm_align.training.state import init_state
from tests.training import tiny

OBJECTIVES = {
    "sft": objectives.sft(),
    "kl_forward": objectives.kl_to_reference("forward"),
    "kl_reverse": objectives.kl_to_reference("reverse"),
    "where_batch": objectives.where("harmful", objectives.sft(), "batch"),
    "where_own": objectives.where("benign", objectives.kl_to_reference(), "own"),
}
WEIGHTS = np.sqrt([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37])
ALL = objectives.combine({name: (float(w), OBJECTIVES[name]) for name, w in zip(OBJECTIVES, WEIGHTS)})
PARAMS, REFERENCE = (jax.tree.map(lambda a: 3 * a, tiny.MODEL.init(jax.random.key(i))) for i in range(2))
BATCH = tiny.batch(0)


@functools.partial(jax.jit, static_argnames=("model", "chunk"))
def evaluate(params, batch: Batch, model: Model = tiny.MODEL, chunk: int | None = None):
    """(loss, metrics) and the gradient."""

    def loss(params):
        scores = batch_scores(model, params, REFERENCE, batch, ALL.needs, chunk)
        return ALL.loss(scores, batch, ALL.normalizers(batch))

    return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.fixture(scope="module")
def expected():
    return evaluate(PARAMS, BATCH)


def unpacked(batch: Batch) -> Batch:
    """Every trace in a row of its own."""
    rows, segments = np.nonzero(np.stack([(batch.segment_ids_BxT == s).any(1) for s in (1, 2, 3)], 1))
    out = {name: np.zeros((len(rows), 16), a.dtype) for name, a in columns(batch).items()}
    for i, (row, segment) in enumerate(zip(rows, segments)):
        at = batch.segment_ids_BxT[row] == segment + 1
        for name, a in columns(batch).items():
            out[name][i, : at.sum()] = a[row, at]
        out["segment_ids_BxT"][i, : at.sum()] = 1
    return batch.replace(**out, tag_BxS=batch.tag_BxS[rows, segments][:, None])


def segments_reversed(batch: Batch) -> Batch:
    """Traces in the opposite order within each row."""
    out = {name: np.zeros_like(a) for name, a in columns(batch).items()}
    tags = np.full_like(batch.tag_BxS, -1)
    for row in range(len(tags)):
        start, count = 0, int(batch.segment_ids_BxT[row].max())
        for new, old in enumerate(range(count, 0, -1), 1):
            at = batch.segment_ids_BxT[row] == old
            for name, a in columns(batch).items():
                out[name][row, start : start + at.sum()] = a[row, at]
            out["segment_ids_BxT"][row, start : start + at.sum()] = new
            tags[row, new - 1] = batch.tag_BxS[row, old - 1]
            start += at.sum()
    return batch.replace(**out, tag_BxS=tags)


def padding_changed(batch: Batch) -> Batch:
    """Other tokens and positions where there is no trace."""
    pad = batch.segment_ids_BxT == 0
    assert pad.any()
    return batch.replace(
        tokens_BxT=np.where(pad, 7, batch.tokens_BxT), positions_BxT=np.where(pad, 11, batch.positions_BxT)
    )


def rows_permuted(batch: Batch) -> Batch:
    return jax.tree.map(lambda a: a[[2, 0, 3, 1]], batch)


def columns(batch: Batch) -> dict[str, np.ndarray]:
    return {name: a for name, a in vars(batch).items() if name.endswith("BxT") and a is not None}


LOOPED = dataclasses.replace(tiny.MODEL, scan=False)
REMAT = dataclasses.replace(tiny.MODEL, remat="full")
CHANGES = {
    "packed = unpacked": lambda: evaluate(PARAMS, unpacked(BATCH)),
    "order of segments": lambda: evaluate(PARAMS, segments_reversed(BATCH)),
    "order of rows": lambda: evaluate(PARAMS, rows_permuted(BATCH)),
    "padding": lambda: evaluate(PARAMS, padding_changed(BATCH)),
    "chunked = full vocabulary": lambda: evaluate(PARAMS, BATCH, chunk=5),
    "scanned = looped": lambda: evaluate(PARAMS, BATCH, model=LOOPED),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes(change, expected):
    close(CHANGES[change](), expected)


STEPS = {"one device": ({}, 1), "micro-batches": ({}, 2), "8 devices": ({"data": 2, "fsdp": 2, "tensor": 2}, 1)}


@pytest.mark.parametrize("how", STEPS)
def test_the_step_computes_the_same(how, expected):
    """k micro-batches = one batch, 1 device = 8 devices: plain gradient descent of rate 1 shows the gradient."""
    sizes, micro_batches = STEPS[how]
    mesh = make_mesh(sizes)
    descent = Optimizer(optax.sgd(1.0), optax.constant_schedule(1.0))
    tuning = full(reference=True)
    step = make_step(tiny.MODEL, ALL, descent, tuning, micro_batches=micro_batches, chunk=None)
    fresh = functools.partial(init_state, tuning=tuning, transform=descent.transform)
    shapes = jax.eval_shape(fresh, KEY, PARAMS)
    shardings = sharding.state_shardings(shapes, descent.transform, mesh, tiny.MODEL.rules)
    state = sharding.start(KEY, PARAMS, tuning, descent.transform, shardings)
    frozen = jax.device_put(REFERENCE, sharding.frozen_shardings(REFERENCE, mesh))
    batch = sharding.global_batch(BATCH, mesh)
    compiled = sharding.compile_step(step, state, frozen, batch, descent.transform, mesh)
    old = jax.tree.leaves(state)
    with jax.set_mesh(mesh):
        state, report = compiled(state, frozen, batch)
    assert all(a.is_deleted() for a in old), "the state is donated"
    assert not any(a.is_deleted() for a in jax.tree.leaves(frozen))
    gradient = jax.tree.map(lambda before, after: before - after, PARAMS, jax.device_get(state.trainable))
    close(((report["loss"], report["objective"]), gradient), expected)
    np.testing.assert_allclose(report["grad_norm"], optax.tree.norm(expected[1]), rtol=1e-5)
    state.step.block_until_ready()
    with jax.set_mesh(mesh):
        compiled(state, frozen, batch)  # what comes out goes in again as it is


def test_gradient_of_what_is_not_trained_is_zero():
    """Exactly zero for the scores of masked tokens and of padding, also where these are not finite."""
    rng = np.random.default_rng(0)
    scores = {name: jnp.asarray(rng.normal(-2, 1, (4, 16)), jnp.float32) for name in ALL.needs}
    masked = BATCH.loss_mask_BxT == 0
    poisoned = {name: jnp.where(masked, -jnp.inf, a) for name, a in scores.items()}
    for objective in OBJECTIVES.values():
        normalizers = objective.normalizers(BATCH)
        gradient = jax.grad(lambda s, o=objective, n=normalizers: o.loss(s, BATCH, n)[0])
        for values in (scores, poisoned):
            assert all((np.asarray(g)[masked] == 0).all() for g in jax.tree.leaves(gradient(values)))
        nothing = BATCH.replace(loss_mask_BxT=np.zeros_like(BATCH.loss_mask_BxT))
        loss, metrics = objective.loss(scores, nothing, objective.normalizers(nothing))
        assert loss == 0 and all(weight == 0 for _, weight in metrics.values())


def test_finite_differences(expected):
    """The slope along the gradient and along a random direction; float32 sums in the model limit it to a percent."""
    _, gradient = expected
    keys = [jax.random.fold_in(KEY, i) for i in range(len(jax.tree.leaves(PARAMS)))]
    random = jax.tree.unflatten(
        jax.tree.structure(PARAMS), [jax.random.normal(k, a.shape) for k, a in zip(keys, jax.tree.leaves(PARAMS))]
    )
    for direction in (gradient, random):
        unit = optax.tree.scale(1 / optax.tree.norm(direction), direction)
        ends = [evaluate(optax.tree.add_scale(PARAMS, s * 3e-4, unit), BATCH)[0][0] for s in (-1, 1)]
        slope, wanted = (ends[1] - ends[0]) / 6e-4, optax.tree.vdot(unit, gradient)
        np.testing.assert_allclose(slope, wanted, rtol=1e-2, atol=1e-2)


KEY = jax.random.key(7)


def close(found, wanted) -> None:
    (loss, metrics), gradient = found
    (wanted_loss, wanted_metrics), wanted_gradient = wanted
    for name in wanted_metrics:
        np.testing.assert_allclose(metrics[name], wanted_metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    scale = float(optax.tree.norm(wanted_gradient))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(wanted_gradient), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, err_msg=jax.tree_util.keystr(path))
