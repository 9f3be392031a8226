"""Meshes, optimizers, formulas and estimates: what is decided before the first step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_align.errors import UserError
from lrm_align.models import Model, ModelConfig
from lrm_align.training import OptimizerSettings, flops, full, lora, make_mesh, memory, metrics, sharding
from lrm_align.training.optimizers import decayed, make_optimizer, make_schedule
from lrm_align.training.scores import check_needs
from lrm_align.training.state import init_state
from tests.training import tiny

QWEN3_8B = ModelConfig("qwen3", 151_936, 4096, 12_288, 36, num_heads=32, num_kv_heads=8, head_dim=128, qk_norm=True)


def test_mesh_fills_one_axis():
    assert dict(make_mesh({"fsdp": -1, "tensor": 2}).shape) == {"data": 1, "fsdp": 4, "tensor": 2}
    assert make_mesh().size == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 16}, r"needs 16 devices, there are 8 \(cpu\)"),
        ({"model": 2}, "unknown axes model; the axes are data, fsdp, tensor"),
        ({"data": 0}, "sizes must be positive"),
        ({"data": -1, "fsdp": -1}, "one of them may be -1"),
        ({"data": -1, "fsdp": 3}, "8 devices cannot be shared by axes of 3"),
    ],
)
def test_mesh_mistakes(sizes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(sizes)


def test_schedules():
    cosine = make_schedule(OptimizerSettings(learning_rate=2.0, warmup=0.1), 100)
    assert [round(float(cosine(s)), 4) for s in (0, 5, 10, 55, 100)] == [0.0, 1.0, 2.0, 1.0, 0.0]
    # As transformers 5.23 computes them; tests/parity compares many more with what is installed.
    for schedule, wanted in {
        "cosine": [0.0, 0.333333, 0.666667, 1.0, 0.933013, 0.75, 0.5, 0.25, 0.066987, 0.0],
        "linear": [0.0, 0.333333, 0.666667, 1.0, 0.833333, 0.666667, 0.5, 0.333333, 0.166667, 0.0],
        "constant": [0.0, 0.333333, 0.666667, *[1.0] * 7],
    }.items():
        rate = make_schedule(OptimizerSettings(learning_rate=1.0, schedule=schedule, warmup=0.25), 9)  # 2.25 steps
        np.testing.assert_allclose([float(rate(step)) for step in range(10)], wanted, atol=1e-6, err_msg=schedule)
    constant = make_schedule(OptimizerSettings(learning_rate=2.0, schedule="constant", warmup=0.0), 100)
    assert float(constant(0)) == float(constant(100)) == 2.0
    for wrong, message in [
        ({"schedule": "step"}, "schedule is 'step'; it must be one of 'cosine', 'linear', 'constant'"),
        ({"warmup": 1.0}, "warmup is 1.0; it must be a finite number, at least 0 and below 1"),
        ({"name": "sgd"}, "name is 'sgd'; it must be one of 'adamw'"),
        ({"clip": -1.0}, "clip is -1.0; it must be a finite number, at least 0"),
        ({"b2": float("nan")}, "b2 is nan"),
    ]:
        with pytest.raises(UserError, match=message):
            make_optimizer(OptimizerSettings(**wrong), 10)


def test_adamw_by_its_equations():
    """Two steps of Loshchilov and Hutter's algorithm 2, with clipping; norms and biases are not decayed."""
    settings = OptimizerSettings(
        learning_rate=0.1, schedule="constant", warmup=0.0, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.5, clip=1.0
    )
    transform = make_optimizer(settings, 2).transform
    params = {"q": jnp.array([1.0, -2.0]), "q_norm": jnp.array([1.0]), "q_bias": jnp.array([3.0])}
    gradients = {"q": jnp.array([3.0, 4.0]), "q_norm": jnp.array([0.0]), "q_bias": jnp.array([12.0])}
    assert decayed(params) == {"q": True, "q_norm": False, "q_bias": False}
    state = transform.init(params)
    expected = {name: np.array(p, np.float64) for name, p in params.items()}
    m, v = ({name: 0 * p for name, p in expected.items()} for _ in range(2))
    for t in (1, 2):
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name in expected:
            g = np.array(gradients[name], np.float64) / 13
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.9 * v[name] + 0.1 * g * g
            adam = (m[name] / (1 - 0.8**t)) / (np.sqrt(v[name] / (1 - 0.9**t)) + 1e-3)
            expected[name] -= 0.1 * (adam + (0.5 * expected[name] if name == "q" else 0))
    for name in expected:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-5)


def test_flops_of_qwen3_8b():
    """7.57e9 matmul parameters without the embedding; PaLM's 6N + 12·L·N·H·T, halved for a causal row."""
    parameters = flops.matmul_parameters(QWEN3_8B)
    assert parameters == 36 * (4096 * 128 * (64 + 16) + 3 * 4096 * 12_288) + 4096 * 151_936
    T = 4096
    found = flops.step_flops(QWEN3_8B, tokens=T, attended=T * (T + 1) / 2) / T
    np.testing.assert_allclose(found, 6 * parameters + 6 * 36 * 32 * 128 * (T + 1), rtol=1e-12)
    adapters = flops.step_flops(QWEN3_8B, tokens=T, attended=0, adapter_parameters=1000) / T
    assert adapters == 4 * parameters + 6000


def test_peaks_go_by_the_longest_name():
    class Device:
        def __init__(self, kind):
            self.device_kind = kind

    assert flops.peak_flops(Device("TPU v6 lite")) == 918e12
    assert flops.peak_flops(Device("TPU v5 lite")) == 197e12
    assert flops.peak_flops(Device("TPU v5")) == 459e12
    assert flops.peak_flops(Device("NVIDIA H200")) == 989e12
    assert flops.peak_flops(Device("cpu")) is None


@pytest.mark.parametrize("tuning", [full(), lora(2, 2.0)], ids=["full", "lora"])
def test_state_lies_as_the_parameters_do(tuning):
    mesh = make_mesh({"fsdp": 2, "tensor": 2})
    transform = make_optimizer(OptimizerSettings(), 10).transform
    fresh = functools.partial(init_state, tuning=tuning, transform=transform)
    like = jax.eval_shape(fresh, jax.random.key(0), tiny.MODEL.init(jax.random.key(0)))
    shardings = sharding.state_shardings(like, transform, mesh, tiny.MODEL.rules)
    assert jax.tree.structure(shardings) == jax.tree.structure(like)
    moments = shardings.optimizer[1][0]
    for name, wanted in shardings.trainable["layers" if "layers" in shardings.trainable else "q"].items():
        place = moments.mu["layers" if "layers" in moments.mu else "q"][name]
        assert place == wanted
    assert moments.count.spec == jax.P()
    assert {a.dtype for a in jax.tree.leaves(like.trainable)} == {jnp.dtype("float32")}


def test_memory_is_estimated_and_refused():
    mesh = make_mesh({"fsdp": 8})
    model = Model(QWEN3_8B, dtype="bfloat16", remat="full")
    transform = make_optimizer(OptimizerSettings(), 10).transform
    params = jax.eval_shape(model.init, jax.random.key(0))
    like = jax.eval_shape(functools.partial(init_state, tuning=full(), transform=transform), jax.random.key(0), params)
    shardings = sharding.state_shardings(like, transform, mesh, model.rules)
    needed = memory.estimate(model, like, None, (shardings, None), mesh, (8, 4096))
    assert needed.state == pytest.approx(8.19e9 * 12 / 8, rel=0.01)
    assert needed.gradients == pytest.approx(8.19e9 * 4 / 8, rel=0.01)
    assert needed.activations == 36 * 4096 * 4096 * 2 + 2 * 4 * 512 * 151_936
    with pytest.raises(UserError, match=r"needs at least \d+\.\d GiB, this host has"):
        memory.check(needed._replace(state=2**50), mesh)
    memory.check(needed._replace(state=0, gradients=0, activations=0), mesh)


def test_unknown_scores_are_named():
    with pytest.raises(UserError, match="needs the scores surprise; there are entropy, kl_forward"):
        check_needs(frozenset({"surprise", "logp"}))


def test_window_takes_means_of_sums():
    window = metrics.Window()
    scalars = {"grad_norm": 1.0, "param_norm": 1.0, "update_norm": 1.0, "lr": 0.1, "trained_tokens": 1.0}
    scalars["skipped"] = 0.0
    for loss, total, weight in ((1.0, 10.0, 1.0), (3.0, 10.0, 3.0)):
        report = {
            "loss": loss,
            "tokens": 4.0,
            "attended": 10.0,
            "objective": {"nll": (total, weight), "none": (0.0, 0.0)},
        }
        window.add(0, scalars | report)
    row = window.row(8, lambda tokens, attended: tokens + attended, 1.0)
    assert row["loss"] == 2.0 and row["nll"] == 5.0 and "none" not in row
    np.testing.assert_allclose(row["mfu"] / row["tokens_per_s"], 28 / 8)
    np.testing.assert_allclose(row["slot_tokens_per_s"], 2 * row["tokens_per_s"])


@pytest.mark.parametrize("name", ["loss", "grad_norm", "param_norm"])
def test_window_refuses_what_is_not_finite(name):
    values = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0, name: float("nan")}
    with pytest.raises(metrics.NotFiniteError, match=f"step 17 gave {name} = nan"):
        metrics.Window().add(17, values)


def test_rows_that_are_done_again_are_dropped(tmp_path):
    for start, steps in ((0, (1, 3, 5)), (4, (5, 7))):
        writer = metrics.Writer(tmp_path, start)
        for step in steps:
            writer.write(step, {"loss": float(start)})
        writer.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == [f'{{"step": {s}, "loss": {v}}}' for s, v in ((1, 0.0), (3, 0.0), (5, 4.0), (7, 4.0))]
