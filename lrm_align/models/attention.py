"""Causal attention inside segments: one function in front of each backend's best kernel."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from lrm_align.errors import UserError
from lrm_align.models import blockwise, partition

KERNELS = ("auto", "blockwise", "einsum", "splash")
CHUNK = 128  # positions of a cache that are read at a time


def attention(
    q_BxTxNxH: jax.Array,
    k_BxTxKxH: jax.Array,
    v_BxTxKxH: jax.Array,
    segment_ids_BxT: jax.Array,
    kernel: str = "auto",
    rules: partition.Rules = partition.DEFAULT_RULES,
) -> jax.Array:
    """softmax(q·k/√H + mask)·v where a token sees the earlier tokens of its own segment and itself.

    Padding is segment 0: it attends to padding only, never to a trace, and no trace attends to it.

    Args:
      q_BxTxNxH: queries, already rotated.
      k_BxTxKxH: keys; query head n reads key head n // (N / K).
      v_BxTxKxH: values.
      segment_ids_BxT: int32.
      kernel: "blockwise" (any backend), "splash" (TPU; elsewhere interpreted), "einsum" (the reference for tests, which
        keeps T×T arrays), or "auto": splash on TPU, else blockwise.
      rules: logical axes to mesh axes.

    Returns:
      context_BxTxNxH in q's dtype, named "context" for `models.remat`.
    """
    if kernel not in KERNELS:
        raise UserError(f"model.attention is {kernel!r}; supported are {', '.join(KERNELS)}")
    if kernel == "splash" or (kernel == "auto" and partition.platform() == "tpu"):
        from lrm_align.models import splash  # Pallas' TPU kernels are imported only where they run.

        return splash.attention(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT, rules)
    if kernel != "einsum":
        return blockwise.attention(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT)
    context_BxTxNxH = einsum_attention(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT)
    return checkpoint_name(context_BxTxNxH, "context")


def einsum_attention(
    q_BxTxNxH: jax.Array, k_BxTxKxH: jax.Array, v_BxTxKxH: jax.Array, segment_ids_BxT: jax.Array
) -> jax.Array:
    """The reference implementation; scores and softmax in float32."""
    T = q_BxTxNxH.shape[1]
    causal_TxT = jnp.tril(jnp.ones((T, T), bool))
    mask_BxTxT = causal_TxT & (segment_ids_BxT[:, :, None] == segment_ids_BxT[:, None, :])
    return masked_attention(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, mask_BxTxT)


def masked_attention(q_BxTxNxH: jax.Array, k_BxCxKxH: jax.Array, v_BxCxKxH: jax.Array, mask_BxTxC: jax.Array):
    """Grouped-query attention under an explicit mask: T queries over C keys; returns context_BxTxNxH."""
    B, T, N, H = q_BxTxNxH.shape
    K = k_BxCxKxH.shape[2]
    q_BxTxKxGxH = q_BxTxNxH.reshape(B, T, K, N // K, H) * (H**-0.5)
    scores = jnp.einsum("btkgh,bckh->bkgtc", q_BxTxKxGxH, k_BxCxKxH, preferred_element_type=jnp.float32)
    scores = jnp.where(mask_BxTxC[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BxCxKxH.dtype)
    context = jnp.einsum("bkgtc,bckh->btkgh", weights, v_BxCxKxH)
    return context.reshape(B, T, N, H)


def cached_attention(
    q_BxNxH: jax.Array,
    k_BxKxH: jax.Array,
    v_BxKxH: jax.Array,
    k_LxBxCxKxH: jax.Array,
    v_LxBxCxKxH: jax.Array,
    layer: jax.Array,
    positions_B: jax.Array,
) -> jax.Array:
    """One query a slot over the positions before it in the cache, and over its own key and value.

    The softmax is summed up chunk by chunk of positions (Milakov and Gimelshein 2018, arXiv 1805.02867). A chunk beyond
    a slot's position changes nothing, to the last bit, so that a slot's result does not depend on how long the others
    are, although the loop ends with the longest.

    Args:
      q_BxNxH: queries, rotated.
      k_BxKxH: keys of the same tokens.
      v_BxKxH: values of the same tokens.
      k_LxBxCxKxH: keys of the earlier tokens.
      v_LxBxCxKxH: values of the earlier tokens.
      layer: index into L.
      positions_B: how many earlier tokens each slot has.

    Returns:
      context_BxNxH.
    """
    B, N, H = q_BxNxH.shape
    C, K = k_LxBxCxKxH.shape[2:4]
    size = min(CHUNK, C)
    q_BxKxGxH = q_BxNxH.reshape(B, K, N // K, H) * (H**-0.5)

    def add(chunk, state):
        top, total, context = state
        start = jnp.minimum(chunk * size, C - size)  # the last chunk overlaps the one before where C is no multiple
        window = (layer, 0, start, 0, 0), (1, B, size, K, H)
        k_BxCxKxH, v_BxCxKxH = (jax.lax.dynamic_slice(a, *window)[0] for a in (k_LxBxCxKxH, v_LxBxCxKxH))
        scores = jnp.einsum("bkgh,bckh->bkgc", q_BxKxGxH, k_BxCxKxH, preferred_element_type=jnp.float32)
        place_C = start + jnp.arange(size)
        mask_BxC = (place_C >= chunk * size) & (place_C < positions_B[:, None])
        scores = jnp.where(mask_BxC[:, None, None], scores, -jnp.inf)
        higher = jnp.maximum(top, jnp.max(scores, axis=-1))
        shrink, weights = jnp.exp(top - higher), jnp.exp(scores - higher[..., None])
        more = jnp.einsum(
            "bkgc,bckh->bkgh", weights.astype(v_BxCxKxH.dtype), v_BxCxKxH, preferred_element_type=jnp.float32
        )
        return higher, total * shrink + jnp.sum(weights, axis=-1), context * shrink[..., None] + more

    own = jnp.einsum("bkgh,bkh->bkg", q_BxKxGxH, k_BxKxH, preferred_element_type=jnp.float32)
    own_context = jnp.broadcast_to(v_BxKxH[:, :, None], q_BxKxGxH.shape).astype(jnp.float32)
    chunks = (jnp.max(positions_B) + size - 1) // size
    _, total, context = jax.lax.fori_loop(0, chunks, add, (own, jnp.ones_like(own), own_context))
    return (context / total[..., None]).reshape(B, N, H).astype(q_BxNxH.dtype)


def slot_attention(q_BxNxH: jax.Array, k_BxKxHxC: jax.Array, v_BxKxCxH: jax.Array, positions_B: jax.Array) -> jax.Array:
    """One query a slot over positions 0…positions_B[b] of its cache; returns context_BxNxH."""
    B, N, H = q_BxNxH.shape
    K, C = k_BxKxHxC.shape[1], k_BxKxHxC.shape[3]
    q_BxKxGxH = q_BxNxH.reshape(B, K, N // K, H) * (H**-0.5)
    scores = jnp.einsum("bkgh,bkhc->bkgc", q_BxKxGxH, k_BxKxHxC, preferred_element_type=jnp.float32)
    seen_BxC = jnp.arange(C) <= positions_B[:, None]
    weights = jax.nn.softmax(jnp.where(seen_BxC[:, None, None], scores, -jnp.inf), axis=-1).astype(v_BxKxCxH.dtype)
    return jnp.einsum("bkgc,bkch->bkgh", weights, v_BxKxCxH).reshape(B, N, H)
