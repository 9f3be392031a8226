"""Attention by blocks of queries, each against the keys before it: half the work, and no T×T array is kept.

The backward pass computes the weights again from the saved log-sum-exp, as FlashAttention does (Dao et al. 2022,
arXiv 2205.14135, section 3.1), so that what a layer keeps grows with T and not with T².
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# Unrolled blocks cost compile time: at most eight, and none below 128 queries, where products get too small.
_MIN_BLOCK, _MAX_BLOCKS = 128, 8


@jax.custom_vjp
def attention(
    q_BxTxNxH: jax.Array, k_BxTxKxH: jax.Array, v_BxTxKxH: jax.Array, segment_ids_BxT: jax.Array
) -> jax.Array:
    """The function of `attention.einsum_attention`; scores and softmax in float32."""
    return _forward(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT)[0]


def _forward(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT):
    B, T, N, H = q_BxTxNxH.shape
    q, k, v = _grouped(q_BxTxNxH, k_BxTxKxH.shape[2]), _heads_first(k_BxTxKxH), _heads_first(v_BxTxKxH)
    contexts, sums = [], []
    for start, stop in _blocks(T):
        scores = _scores(q, k, segment_ids_BxT, start, stop)
        top = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        # Divided after the product, T×H numbers instead of T×T, and in float32: a total in bfloat16 would be wrong by
        # up to 0.4 % for the whole of a context.
        context = jnp.einsum(
            "bkgtc,bkch->bkgth", weights.astype(v.dtype), v[:, :, :stop], preferred_element_type=jnp.float32
        )
        contexts.append((context / total).astype(v.dtype))
        sums.append(top + jnp.log(total))
    # Both under one name: with them saved, rematerialisation has no attention to run again.
    logsumexp = checkpoint_name(jnp.concatenate(sums, axis=3), "context")
    out_BxTxNxH = jnp.concatenate(contexts, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)
    out_BxTxNxH = checkpoint_name(out_BxTxNxH, "context")
    return out_BxTxNxH, (q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT, out_BxTxNxH, logsumexp)


def _backward(saved, out_grad_BxTxNxH):
    q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT, out_BxTxNxH, logsumexp = saved
    B, T, N, H = q_BxTxNxH.shape
    K = k_BxTxKxH.shape[2]
    q, k, v = _grouped(q_BxTxNxH, K), _heads_first(k_BxTxKxH), _heads_first(v_BxTxKxH)
    grad = _split(out_grad_BxTxNxH, K)
    out = _split(out_BxTxNxH, K).astype(jnp.float32)
    inner = jnp.sum(grad.astype(jnp.float32) * out, axis=-1, keepdims=True)
    q_grads, k_grad, v_grad = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for start, stop in _blocks(T):
        here = slice(start, stop)
        weights = jnp.exp(_scores(q, k, segment_ids_BxT, start, stop) - logsumexp[:, :, :, here])
        products = jnp.einsum(
            "bkgth,bkch->bkgtc", grad[:, :, :, here], v[:, :, :stop], preferred_element_type=jnp.float32
        )
        scores_grad = (weights * (products - inner[:, :, :, here])).astype(q.dtype)
        q_grads.append(jnp.einsum("bkgtc,bkch->bkgth", scores_grad, k[:, :, :stop]))
        k_grad = k_grad.at[:, :, :stop].add(jnp.einsum("bkgtc,bkgth->bkch", scores_grad, q[:, :, :, here]))
        v_grad = v_grad.at[:, :, :stop].add(
            jnp.einsum("bkgtc,bkgth->bkch", weights.astype(v.dtype), grad[:, :, :, here])
        )
    q_grad = jnp.concatenate(q_grads, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H) * (H**-0.5)
    return q_grad, _heads_first(k_grad).astype(k.dtype), _heads_first(v_grad).astype(v.dtype), None


attention.defvjp(_forward, _backward)


def _blocks(T: int) -> Iterator[tuple[int, int]]:
    size = max(_MIN_BLOCK, -(-T // _MAX_BLOCKS))
    for start in range(0, T, size):
        yield start, min(start + size, T)


def _scores(q, k, segment_ids_BxT, start: int, stop: int) -> jax.Array:
    """float32 scores of queries start … stop against keys 0 … stop, masked; B×K×G×(stop - start)×stop."""
    scores = jnp.einsum("bkgth,bkch->bkgtc", q[:, :, :, start:stop], k[:, :, :stop], preferred_element_type=jnp.float32)
    causal = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)
    mask = causal & (segment_ids_BxT[:, start:stop, None] == segment_ids_BxT[:, None, :stop])
    return jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)


def _split(x_BxTxNxH: jax.Array, K: int) -> jax.Array:
    B, T, N, H = x_BxTxNxH.shape
    return x_BxTxNxH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)


def _grouped(q_BxTxNxH: jax.Array, K: int) -> jax.Array:
    """Queries by key head, scaled: B×K×G×T×H."""
    return _split(q_BxTxNxH, K) * (q_BxTxNxH.shape[-1] ** -0.5)


def _heads_first(x: jax.Array) -> jax.Array:
    """B×T×K×H to B×K×T×H, or back."""
    return x.transpose(0, 2, 1, 3)
