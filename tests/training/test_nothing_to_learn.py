"""A batch whose gradient is exactly zero changes nothing but the place in the data, whatever the reason; it is said."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_align import objectives
from lrm_align.objectives import Objective
from lrm_align.training import OptimizerSettings, TrainSettings, full, lora, make_mesh, make_step, sharding, train
from lrm_align.training.optimizers import any_nonzero, make_optimizer
from lrm_align.training.state import init_state
from lrm_align.training.synced import synced
from tests.training import tiny

SETTINGS = OptimizerSettings(learning_rate=0.02, schedule="linear", warmup=0.2, weight_decay=0.1)
STEPS = 6
PAIRS = np.tile(np.int32([[0, 1, -1]]), (4, 1))


def batch(seed: int):
    """With every column."""
    made = tiny.batch(seed)
    advantage = np.random.default_rng(seed).normal(size=made.tokens_BxT.shape).astype(np.float32)
    return made.replace(
        advantage_BxT=advantage, sampler_logp_BxT=-np.abs(advantage), truncated_BxS=np.zeros((4, 3)), pair_BxS=PAIRS
    )


def untrained(batch):
    return batch.replace(loss_mask_BxT=np.zeros_like(batch.loss_mask_BxT))


def one_sided(batch):
    """The rejected answer of every pair has no trained token."""
    return batch.replace(loss_mask_BxT=np.where(batch.segment_ids_BxT == 2, 0, batch.loss_mask_BxT))


def padding(batch):
    """No trace at all, as the minibatch of a step whose groups were all dropped."""
    return jax.tree.map(np.zeros_like, batch).replace(
        tag_BxS=np.full_like(batch.tag_BxS, -1), pair_BxS=np.full_like(PAIRS, -1)
    )


# What makes the gradient zero, by objective.
REASONS = {
    "sft without a trained token": (objectives.sft(), untrained),
    "no pair counts": (objectives.preference(), one_sided),
    "no group was left": (objectives.grpo(kl_weight=0.1), padding),
}
MORE = {
    "sft without a trace": (objectives.sft(), padding),
    "no trace has the tag": (objectives.where("harmful", objectives.sft()), lambda b: b.replace(tag_BxS=0 * PAIRS + 1)),
    "no pair": (objectives.preference("orpo"), lambda b: b.replace(pair_BxS=0 * PAIRS - 1)),
    "every advantage is zero": (objectives.dapo(), lambda b: b.replace(advantage_BxT=0 * b.advantage_BxT)),
    "all truncated": (objectives.dapo(masks=["truncated"]), lambda b: b.replace(truncated_BxS=np.ones((4, 3)))),
}


class Run:
    """The compiled step, from the same start; `mesh` and micro-batches as a run has them."""

    def __init__(self, objective: Objective, tuning=None, mesh=None, micro_batches: int = 2, skip_empty: bool = True):
        self.mesh, tuning = mesh or make_mesh(), tuning or full(reference=True)
        optimizer = make_optimizer(SETTINGS, STEPS)
        step = make_step(
            tiny.MODEL, objective, optimizer, tuning, micro_batches=micro_batches, chunk=8, skip_empty=skip_empty
        )
        params = tiny.MODEL.init(jax.random.key(1))
        fresh = functools.partial(init_state, tuning=tuning, transform=optimizer.transform)
        shapes = jax.eval_shape(fresh, jax.random.key(0), params)
        shardings = sharding.state_shardings(shapes, optimizer.transform, self.mesh, tiny.MODEL.rules)
        self.restart = functools.partial(
            sharding.start, jax.random.key(0), params, tuning, optimizer.transform, shardings
        )
        self.state = self.restart()
        frozen = tuning.freeze(params)
        self.frozen = jax.device_put(frozen, sharding.frozen_shardings(frozen, self.mesh))
        placed = sharding.global_batch(batch(0), self.mesh)
        self.compiled = sharding.compile_step(step, self.state, self.frozen, placed, optimizer.transform, self.mesh)

    def __call__(self, batch) -> dict:
        with jax.set_mesh(self.mesh):
            self.state, report = self.compiled(self.state, self.frozen, sharding.global_batch(batch, self.mesh))
        return jax.device_get(report)

    def kept(self):
        """All that a skipped step must not touch."""
        return jax.device_get((self.state.trainable, self.state.optimizer))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("reason", [*REASONS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_nothing_changes_but_the_place_in_the_data(reason):
    """After a step that left momentum; and the steps after it are those of a run without it."""
    objective, empty = (REASONS | MORE)[reason]
    run = Run(objective)
    for _ in range(2):
        report = run(batch(0))
    assert report["skipped"] == 0 and report["update_norm"] > 0
    before = run.kept()
    report = run(empty(batch(1)))
    assert report["skipped"] == 1 and report["grad_norm"] == report["update_norm"] == 0 and np.isfinite(report["loss"])
    assert_equal(run.kept(), before)
    assert int(run.state.step) == 3
    rate = report["lr"]
    after = run(batch(2))
    assert after["lr"] == rate == pytest.approx(SETTINGS.learning_rate), "the schedule waited: the warm-up has ended"

    disturbed = run.kept()
    run.state = run.restart()
    for seed in (0, 0, 2):
        run(batch(seed))
    assert_equal(run.kept(), disturbed)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tuning": lora(2, 4.0)}, marks=pytest.mark.slow),
        pytest.param({"micro_batches": 1}, marks=pytest.mark.slow),
        pytest.param({"skip_empty": False}, marks=pytest.mark.slow),
        {"mesh": {"data": 2, "fsdp": 2, "tensor": 2}, "micro_batches": 1},
    ],
    ids=["adapters", "one piece", "empty pieces run", "eight devices"],
)
def test_however_it_is_trained(options):
    if "mesh" in options:
        options = options | {"mesh": make_mesh(options["mesh"])}
    run = Run(objectives.sft(), **options)
    run(batch(0))
    before = run.kept()
    assert run(untrained(batch(1)))["skipped"] == 1
    assert_equal(run.kept(), before)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("follows", [False, True], ids=["", "with a reference that follows"])
def test_every_optimizer_waits_for_a_gradient(clip, follows):
    """By itself, outside of the step; a weight of -0.0 stays one."""
    made = make_optimizer(dataclasses.replace(SETTINGS, clip=clip, warmup=0.0), STEPS)
    transform = (synced(made, every=1, mixup=0.5) if follows else made).transform
    weights = {"q": jnp.array([1.0, -0.0])}
    state = transform.init(weights)
    moved, state = transform.update({"q": jnp.array([1.0, 0.0])}, state, weights)
    weights = optax.apply_updates(weights, moved)
    nothing, after = transform.update({"q": jnp.zeros(2)}, state, weights)
    assert_equal(after, state)
    kept = optax.apply_updates(weights, nothing)
    assert_equal(kept, weights)
    assert_equal(np.signbit(kept["q"]), np.signbit(weights["q"]))


def test_a_tiny_gradient_is_one_and_so_is_a_broken_one():
    """Their squares are 0 in float32, or NaN; a step with NaN is not passed over in silence."""
    for value, something in ((0.0, False), (-0.0, False), (1e-30, True), (np.nan, True)):
        assert bool(any_nonzero({"a": jnp.zeros(3), "b": jnp.array([0.0, value])})) == something


class SomeEmpty(tiny.Loader):
    """Steps 1 and 2 have nothing to learn."""

    def batch(self, step):
        return untrained(tiny.batch(step)) if step in (1, 2) else tiny.batch(step)


def test_a_run_says_so_and_trains_on_the_rest():
    lines: list[str] = []
    settings = TrainSettings(log_every=3)

    def run(loader, log):
        return train(
            tiny.MODEL, tiny.MODEL.init(jax.random.key(1)), objectives.sft(), loader, tuning=lora(2, 4.0),
            optimizer=dataclasses.replace(SETTINGS, schedule="constant", warmup=0.0), settings=settings, log=log,
        )  # fmt: skip

    trained = run(SomeEmpty(STEPS), lines.append)
    assert [row["updates/skipped"] for row in trained.rows] == [2, 0]
    said = [line for line in lines if line.startswith("warning")]
    assert said == [
        "warning: step 3: since the last report 2 updates had a gradient of exactly zero: weights and optimizer stayed "
        "as they were"
    ]

    class Rest(tiny.Loader):
        def batch(self, step):
            return tiny.batch((0, 3, 4, 5)[step])

    rest = run(Rest(4), lambda line: None)
    assert_equal(trained.trainable, rest.trainable)
