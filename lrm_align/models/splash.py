"""Splash attention: Pallas' block-sparse flash attention for TPU, with segment ids and grouped queries.

Rabe and Staats 2021 (arXiv 2112.05682), Dao 2023 (arXiv 2307.08691); the kernel is JAX's own. Blocks above the diagonal
are skipped, and nothing of size T × T is ever in memory.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jax.sharding import PartitionSpec as P

from lrm_align.models import partition

LANES = 128  # of the vector unit: a block of queries or keys is a multiple of it, and so is a head in memory
BLOCK = 512  # queries, and keys, that a program of the grid holds
BACKWARD_BLOCK = 2048  # keys a program of the backward pass holds; their gradients are summed over the queries there
# The fused backward kernel computes the scores once instead of twice, but writes a query gradient for every block of
# keys before it adds them up: T / BACKWARD_BLOCK copies. Beyond this many, two kernels take less memory.
FUSED_COPIES = 4
SAVED_NAME = "context"  # in models.remat: output and log-sum-exp kept, so that backward does not run the kernel again


def attention(
    q_BxTxNxH: jax.Array,
    k_BxTxKxH: jax.Array,
    v_BxTxKxH: jax.Array,
    segment_ids_BxT: jax.Array,
    rules: partition.Rules = partition.DEFAULT_RULES,
) -> jax.Array:
    """softmax(q·k/√H + mask)·v where a token sees the earlier tokens of its own segment and itself.

    Compiled for a TPU, interpreted elsewhere (slow: for tests). With a mesh in context every device runs the kernel on
    its own rows and heads, without communication.

    Args:
      q_BxTxNxH: queries, already rotated.
      k_BxTxKxH: keys; query head n reads key head n // (N / K).
      v_BxTxKxH: values.
      segment_ids_BxT: int32; padding, segment 0, is a segment of its own.
      rules: logical axes to mesh axes.

    Returns:
      context_BxTxNxH in q's dtype.
    """
    local = functools.partial(_attend, interpret=partition.platform() != "tpu")
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT)
    batch, heads = partition.spec(("batch", "heads"), rules)
    if q_BxTxNxH.shape[0] % partition.ways(mesh, batch):
        batch = None  # Fewer rows than devices, as when one prompt is read: all devices read it.
    tensor = P(batch, None, heads, None)
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(tensor, tensor, tensor, P(batch, None)), out_specs=tensor, check_vma=False
    )
    return sharded(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT)


def _attend(q_BxTxNxH, k_BxTxKxH, v_BxTxKxH, segment_ids_BxT, interpret: bool) -> jax.Array:
    """The kernel over rows that lie on one device."""
    T, N, H = q_BxTxNxH.shape[1:]
    block = min(BLOCK, LANES * math.ceil(T / LANES))
    padding = -T % block
    width = -H % LANES
    kernel = _kernel(N, T + padding, block, interpret)

    def heads_first(x):
        return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padding), (0, width)))

    # Rows are filled up with segment 0 behind their end: no trace attends to it, and it only to itself.
    segments = jnp.pad(segment_ids_BxT, ((0, 0), (0, padding)))
    q, k, v = heads_first(q_BxTxNxH * H**-0.5), heads_first(k_BxTxKxH), heads_first(v_BxTxKxH)
    ids = splash_attention_kernel.SegmentIds(segments, segments)
    context_BxNxTxH = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, segment_ids=ids))(q, k, v, ids)
    return jnp.swapaxes(context_BxNxTxH[:, :, :T, :H], 1, 2)


def _kernel(heads: int, length: int, block: int, interpret: bool):
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((length, length))] * heads)
    keys = math.gcd(length, BACKWARD_BLOCK)
    fused = length // keys <= FUSED_COPIES
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=keys if fused else block,
        block_kv_dkv_compute=block,
        block_q_dq=None if fused else block,
        block_kv_dq=None if fused else block,
        use_fused_bwd_kernel=fused,
    )
    return splash_attention_kernel.make_splash_mha(
        mask,
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=SAVED_NAME,
        interpret=interpret,
    )
