"""A lower bound of what a run needs of a device's memory, known before anything is allocated."""

import math
import os
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lrm_align.errors import UserError
from lrm_align.models import Model
from lrm_align.training.state import State

# Tensors of a block that stay for the backward pass under each remat policy, beside its input, as multiples of
# (width, query heads · head_dim, key-value heads · head_dim, ffn).
_KEPT = {
    "none": (4, 3, 4, 3),
    "full": (0, 0, 0, 0),
    "context": (0, 1, 0, 0),
    "attention": (1, 2, 2, 0),
    "minimal": (2, 2, 2, 2),
    "offload": (0, 1, 0, 0),
}


class Estimate(NamedTuple):
    """Bytes on one device, at least.

    Attributes:
      state: what trains and the optimizer's state.
      frozen: parameters that don't train.
      gradients: twice with micro-batches, since they are added up.
      activations: of one micro-batch, with a chunk of logits.
    """

    state: int
    frozen: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)


def estimate(
    model: Model,
    state: State,
    frozen: Any,
    shardings: tuple[State, Any],
    mesh: Mesh,
    batch_shape: tuple[int, int],
    micro_batches: int = 1,
    chunk: int | None = 512,
) -> Estimate:
    """Counts bytes by shapes; splash attention is taken for granted, whose memory does not grow with T².

    Args:
      model: static.
      state, frozen: arrays, or their shapes.
      shardings: of both.
      mesh: of the run.
      batch_shape: (B, T) of the global batch.
      micro_batches: pieces of a batch.
      chunk: positions whose logits are in memory at a time.
    """
    c = model.config
    trainable = _bytes(state.trainable, shardings[0].trainable)
    tensor = mesh.shape["tensor"]
    rows = batch_shape[0] // (mesh.shape["data"] * mesh.shape["fsdp"] * micro_batches)
    tokens = rows * batch_shape[1]
    width, heads, kv, ffn = _KEPT[model.remat]
    size = np.dtype(model.dtype).itemsize if model.dtype != "bfloat16" else 2
    split = (heads * c.num_heads * c.head_dim + kv * c.num_kv_heads * c.head_dim + ffn * c.ffn) // tensor
    layers = c.num_layers * tokens * size * (c.width * (1 + width) + split)
    logits = 2 * 4 * rows * min(chunk or batch_shape[1], batch_shape[1]) * c.vocab_size // tensor
    return Estimate(
        state=trainable + _bytes(state.optimizer, shardings[0].optimizer),
        frozen=0 if frozen is None else _bytes(frozen, shardings[1]),
        gradients=trainable * (2 if micro_batches > 1 else 1),
        activations=layers + logits,
    )


def check(needed: Estimate, mesh: Mesh) -> None:
    """Refuses a run that cannot fit.

    Raises:
      UserError: with what is needed and what there is.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        # All devices of a CPU share the host's memory.
        total, limit, where = needed.total * mesh.size, _host_memory(), "this host"
    else:
        stats = device.memory_stats() or {}
        total, limit, where = needed.total, stats.get("bytes_limit", 0), f"a {device.device_kind}"
    if limit and total > limit:
        gib = {name: f"{value / 2**30:.1f}" for name, value in needed._asdict().items()}
        raise UserError(
            f"training needs at least {total / 2**30:.1f} GiB, {where} has {limit / 2**30:.1f} GiB (on one device: "
            f"state {gib['state']}, frozen {gib['frozen']}, gradients {gib['gradients']}, activations "
            f"{gib['activations']}); try LoRA, a larger fsdp axis, shorter rows, micro-batches, or model.remat=full"
        )


def _bytes(tree: Any, shardings: Any) -> int:
    def one(leaf: Any, sharding: jax.sharding.Sharding) -> int:
        return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, shardings)))


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
