"""What must change no loss and no gradient of a model, for every objective of the table.

`test_losses.py` shows the same of the losses alone, and more sharply.
"""

import dataclasses
import functools
from typing import Any

import jax
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
from tests.invariance import packing
from tests.invariance.evaluated import FAST, Evaluated, evaluated
from tests.invariance.table import OBJECTIVES
from tests.training import tiny

KEY = jax.random.key(7)
NEEDS = frozenset().union(*(objective.needs for objective in OBJECTIVES.values()))


def parameters(seed: int) -> Any:
    """Random ones, by NumPy: compiling an initialisation costs more than the model does."""
    rng = np.random.default_rng(seed)

    def draw(path, a):
        return np.ones(a.shape, np.float32) if path[-1].key.endswith("norm") else rng.normal(0, 0.3, a.shape)

    shapes = jax.eval_shape(tiny.MODEL.init, KEY)
    return jax.tree.map(np.float32, jax.tree_util.tree_map_with_path(draw, shapes))


PARAMS, REFERENCE = parameters(0), parameters(1)
# What the step runs: a live reference, a statistic of the batch, ratios, pairs; with weights of no common measure.
TOGETHER = {
    name: float(np.sqrt(prime))
    for name, prime in (("where_own", 2), ("combine_statistics", 3), ("grpo_kl_unbiased", 5), ("preference_sft", 7))
}
TOGETHER_OBJECTIVE = objectives.combine({name: (weight, OBJECTIVES[name]) for name, weight in TOGETHER.items()})


@functools.partial(jax.jit, static_argnames=("model", "chunk"), compiler_options=FAST)
def through_the_model(params, batch: Batch, slopes, model: Model = tiny.MODEL, chunk: int | None = None):
    """The scores of a batch; and, from slopes of J losses in the scores, {score: JxBxT}, those in the parameters."""
    scores, back = jax.vjp(lambda params: batch_scores(model, params, REFERENCE, batch, NEEDS, chunk), params)
    # A map, not a vmap: XLA's CPU backend gets batched products of more than about fifty slopes wrong (jax 0.10.2).
    return scores, jax.lax.map(lambda slope: back(slope)[0], slopes)


def no_slopes() -> dict[str, np.ndarray]:
    return {score: np.zeros((len(OBJECTIVES), packing.ROWS, packing.LENGTH), np.float32) for score in NEEDS}


@functools.cache
def traces() -> packing.Traces:
    """With columns moved to where the model's own log-probabilities are, so that ratios are those of a run."""
    drawn = packing.traces(0, tiny.CONFIG.vocab_size, np.float32)
    rows = packing.pack(drawn, packing.PACKED)
    moved = rows.by_token(through_the_model(PARAMS, rows.batch, no_slopes())[0]["logp"]) - drawn.token["logp"]
    columns = ("old_logp_BxT", "ref_logp_BxT", "sampler_logp_BxT")
    return drawn._replace(token=drawn.token | {name: drawn.token[name] + moved for name in columns})


def evaluate(params, rows: packing.Rows, **options) -> tuple[dict[str, Evaluated], Any]:
    """Every objective on the scores of the model, and the gradients of all in the parameters, one behind the other."""
    slopes = no_slopes()
    scores, _ = jax.device_get(through_the_model(params, rows.batch, slopes, **options))
    found = evaluated(rows._replace(scores=jax.tree.map(np.float64, scores)))
    for index, name in enumerate(OBJECTIVES):
        for score, gradient in found[name].gradient.items():
            slopes[score][index] = gradient
    return found, jax.device_get(through_the_model(params, rows.batch, slopes, **options)[1])


LOOPED = dataclasses.replace(tiny.MODEL, scan=False)
CHANGES = {
    "packed = unpacked": {"rows": packing.UNPACKED},
    "order of segments": {"rows": packing.SEGMENTS_REVERSED},
    "order of rows": {"rows": packing.ROWS_PERMUTED},
    "padding": {"padding": 7.0},
    "chunked = full vocabulary": {"chunk": 5},
    "scanned = looped": {"model": LOOPED},
}


@functools.cache
def changed(change: str | None) -> tuple[dict[str, Evaluated], Any]:
    options: dict[str, Any] = dict(CHANGES[change]) if change else {}
    rows = packing.pack(traces(), options.pop("rows", packing.PACKED), options.pop("padding", 0.0))
    return evaluate(PARAMS, rows, **options)


def of(gradients: Any, index: int) -> Any:
    return jax.tree.map(lambda a: a[index], gradients)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes(change, name):
    (found, gradients), (wanted, wanted_gradients) = changed(change), changed(None)
    np.testing.assert_allclose(found[name].loss, wanted[name].loss, rtol=1e-5, atol=1e-6)
    close_metrics(found[name].metrics, wanted[name].metrics)
    index = list(OBJECTIVES).index(name)
    close_gradients(of(gradients, index), of(wanted_gradients, index))


def test_every_objective_trains_the_model():
    _, gradients = changed(None)
    for index, name in enumerate(OBJECTIVES):
        assert optax.tree.norm(of(gradients, index)) > 1e-3, name


def test_the_step_computes_the_same():
    """k micro-batches on 8 devices = one batch on one: plain gradient descent of rate 1 shows the gradient.

    Of some objectives together: that the losses alone can be cut and spread, each shows in `test_losses.py`.
    """
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    descent = Optimizer(optax.sgd(1.0), optax.constant_schedule(1.0))
    tuning = full(reference=True)
    step = make_step(tiny.MODEL, TOGETHER_OBJECTIVE, descent, tuning, micro_batches=2, chunk=None)
    fresh = functools.partial(init_state, tuning=tuning, transform=descent.transform)
    shapes = jax.eval_shape(fresh, KEY, PARAMS)
    shardings = sharding.state_shardings(shapes, descent.transform, mesh, tiny.MODEL.rules)
    state = sharding.start(KEY, PARAMS, tuning, descent.transform, shardings)
    frozen = jax.device_put(REFERENCE, sharding.frozen_shardings(REFERENCE, mesh))
    batch = sharding.global_batch(packing.pack(traces(), packing.PACKED).batch, mesh)
    compiled = sharding.compile_step(step, state, frozen, batch, descent.transform, mesh)
    old = jax.tree.leaves(state)
    with jax.set_mesh(mesh):
        state, report = compiled(state, frozen, batch)
    assert all(a.is_deleted() for a in old), "the state is donated"
    assert not any(a.is_deleted() for a in jax.tree.leaves(frozen))

    found, gradients = changed(None)
    indices = [list(OBJECTIVES).index(name) for name in TOGETHER]
    wanted = jax.tree.map(lambda a: sum(w * a[i] for i, w in zip(indices, TOGETHER.values())), gradients)
    np.testing.assert_allclose(report["loss"], sum(w * found[name].loss for name, w in TOGETHER.items()), rtol=1e-5)
    for name in TOGETHER:
        metrics = found[name].metrics
        close_metrics({key: report["objective"][f"{name}/{key}"] for key in metrics}, metrics)
    close_gradients(jax.tree.map(lambda a, b: a - b, PARAMS, jax.device_get(state.trainable)), wanted)
    np.testing.assert_allclose(report["grad_norm"], optax.tree.norm(wanted), rtol=1e-5)
    state.step.block_until_ready()
    with jax.set_mesh(mesh):
        compiled(state, frozen, batch)  # what comes out goes in again as it is


def test_finite_differences():
    """Through the model, along the gradient and a random direction; its float32 sums limit them to a percent."""
    rows = packing.pack(traces(), packing.PACKED)
    gradient = of(changed(None)[1], list(OBJECTIVES).index("sft"))
    keys = [jax.random.fold_in(KEY, i) for i in range(len(jax.tree.leaves(PARAMS)))]
    random = jax.tree.unflatten(
        jax.tree.structure(PARAMS), [jax.random.normal(k, a.shape) for k, a in zip(keys, jax.tree.leaves(PARAMS))]
    )
    for direction in (gradient, random):
        unit = optax.tree.scale(1 / optax.tree.norm(direction), direction)
        ends = [evaluate(optax.tree.add_scale(PARAMS, s * 3e-4, unit), rows)[0]["sft"].loss for s in (-1, 1)]
        slope, wanted = (ends[1] - ends[0]) / 6e-4, optax.tree.vdot(unit, gradient)
        np.testing.assert_allclose(slope, wanted, rtol=1e-2, atol=1e-2)


def close_metrics(found, wanted) -> None:
    for key, pair in wanted.items():
        for a, b in zip(found[key], pair, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=key)


def close_gradients(found, wanted) -> None:
    scale = float(optax.tree.norm(wanted))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, err_msg=jax.tree_util.keystr(path))
