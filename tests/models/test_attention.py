"""Attention by blocks equals the plain formula, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.models import blockwise
from lrm_align.models.attention import einsum_attention
from tests.families import packed_rows


@pytest.mark.parametrize(
    ("length", "dtype", "tolerance"), [(40, "float32", 1e-5), (45, "float32", 1e-5), (45, "bfloat16", 0.05)]
)
def test_blocks_equal_the_formula(monkeypatch, length, dtype, tolerance):
    monkeypatch.setattr(blockwise, "_MIN_BLOCK", 16)
    rng = np.random.default_rng(0)
    q, k, v, weights = (rng.standard_normal((2, length, n, 6)).astype(np.float32) for n in (4, 2, 2, 4))
    segments = packed_rows(0, 2, length, 48)[1]
    q, k, v = (jnp.asarray(x, dtype) for x in (q, k, v))

    def value_and_gradients(kernel):
        def loss(q, k, v):
            context = kernel(q, k, v, segments)
            return jnp.sum(weights * context), context

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)

    (_, context), gradients = value_and_gradients(blockwise.attention)
    (_, expected), expected_gradients = value_and_gradients(einsum_attention)
    assert context.dtype == expected.dtype == dtype
    for a, b in zip((context, *gradients), (expected, *expected_gradients)):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=tolerance)


def test_bfloat16_rounds_numbers_and_no_sums():
    """Sharp attention: the blocks stay about as near to float32 as the formula does in bfloat16."""
    rng = np.random.default_rng(0)
    wide = [size * rng.standard_normal((2, 160, n, 64)).astype(np.float32) for n, size in ((4, 4), (2, 4), (2, 1))]
    narrow = [jnp.asarray(a, jnp.bfloat16) for a in wide]
    wide = [a.astype(jnp.float32) for a in narrow]
    slope = rng.standard_normal((2, 160, 4, 64)).astype(np.float32)
    segments = packed_rows(0, 2, 160, 48)[1]

    def evaluated(kernel, arrays):
        context, back = jax.vjp(jax.jit(lambda q, k, v: kernel(q, k, v, segments)), *arrays)
        return [np.asarray(a, np.float32) for a in (context, *back(slope.astype(context.dtype)))]

    exact = evaluated(einsum_attention, wide)
    errors = [
        [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(evaluated(kernel, narrow), exact)]
        for kernel in (blockwise.attention, einsum_attention)
    ]
    ratios = np.divide(*errors)
    assert ratios[0] < 1.1 and max(ratios) < 3.5, "as in FlashAttention, gradients see the context rounded"
