"""Causal attention inside segments: one function in front of each backend's best kernel."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from lrm_align.errors import UserError
from lrm_align.models import blockwise, partition

KERNELS = ("auto", "blockwise", "einsum", "splash")


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
