"""Splash attention equals the einsum, forward and backward, alone and on a mesh; interpreted, since there is no TPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.models import partition, remat, splash
from lrm_align.models.attention import attention, einsum_attention
from lrm_align.training import make_mesh


def packed(B: int, T: int, N: int, K: int, H: int):
    """Random queries, keys and values over rows of three segments with padding behind them."""
    keys = jax.random.split(jax.random.key(T), 3)
    q, k, v = (jax.random.normal(key, (B, T, heads, H)) for key, heads in zip(keys, (N, K, K)))
    ends = np.sort(np.random.default_rng(T).integers(1, T - 6, size=(B, 3)), axis=1)
    segments = 1 + (np.arange(T)[None, :, None] >= ends[:, None]).sum(-1)
    return q, k, v, jnp.asarray(np.where(segments > 3, 0, segments), jnp.int32)


def value_and_gradients(f, q, k, v, segments):
    """The context, and its gradients under weights that differ everywhere and ignore padding."""
    weights = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape) * (segments > 0)[..., None, None]

    def loss(q, k, v):
        context = f(q, k, v, segments)
        return jnp.sum(context * weights), context

    (_, context), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
    return context, *gradients


def assert_equal(found, wanted):
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(
    "T, N, K, H, copies",
    [
        (24, 2, 1, 16, 1),  # shorter than a block, a head smaller than the vector unit, one key head for all
        (200, 4, 2, 64, 2),  # two blocks, the second partly padding; one backward kernel
        (256, 2, 2, 128, 1),  # as the kernel likes it; two backward kernels
    ],
)
def test_equals_einsum_with_gradients(T, N, K, H, copies, monkeypatch):
    monkeypatch.setattr(splash, "BLOCK", 128)
    monkeypatch.setattr(splash, "BACKWARD_BLOCK", 128)
    monkeypatch.setattr(splash, "FUSED_COPIES", copies)
    inputs = packed(1, T, N, K, H)
    assert_equal(value_and_gradients(splash.attention, *inputs), value_and_gradients(einsum_attention, *inputs))


def test_equals_einsum_on_a_mesh():
    inputs = packed(2, 24, 4, 2, 16)
    wanted = value_and_gradients(einsum_attention, *inputs)
    with jax.set_mesh(make_mesh({"fsdp": 2, "tensor": 2})):
        assert_equal(value_and_gradients(splash.attention, *inputs), wanted)


def test_rows_that_the_mesh_does_not_divide():
    inputs = packed(1, 24, 2, 1, 16)
    with jax.set_mesh(make_mesh({"data": 2})):
        np.testing.assert_allclose(jax.jit(splash.attention)(*inputs), einsum_attention(*inputs), atol=2e-5)


def test_padding_does_not_reach_the_traces():
    q, k, v, segments = packed(1, 24, 2, 1, 16)
    noise = jnp.where((segments == 0)[..., None, None], 7.0, 0.0)
    run = jax.jit(lambda q, k, v: attention(q, k, v, segments, "splash") * (segments > 0)[..., None, None])
    np.testing.assert_array_equal(run(q, k, v), run(q + noise, k + noise, v + noise))


def test_saved_context_spares_the_second_forward_pass(capsys):
    """JAX 0.10 shows it among the saved residuals, the output and its log-sum-exp; 0.12 in the gradient's kernels."""
    q, k, v, segments = packed(1, 24, 2, 1, 16)
    kept, kernels = {}, {}
    for policy in ("full", "context"):
        layer = remat.rematerialised(lambda q: jnp.sin(splash.attention(q, k, v, segments)), policy)
        jax.ad_checkpoint.print_saved_residuals(layer, q)
        kept[policy] = len(capsys.readouterr().out.splitlines())
        gradient = jax.make_jaxpr(jax.grad(lambda q, layer=layer: layer(q).sum()))(q)
        kernels[policy] = str(gradient).count("pallas_call[")
    assert kept["context"] - kept["full"] == 2 or kernels["context"] < kernels["full"]


def test_the_kernel_follows_the_mesh_not_the_host():
    assert partition.platform() == jax.default_backend() == "cpu"
    with jax.set_mesh(make_mesh({"data": 2})):
        assert partition.platform() == "cpu"
