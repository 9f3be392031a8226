"""A lower bound of what a run needs of a device's memory, known before anything is allocated."""

from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from lrm_align.models import Model, memory
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
ADVICE = "try LoRA, a larger fsdp axis, shorter rows, micro-batches, or model.remat=full"


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
    trainable = memory.sharded(state.trainable, shardings[0].trainable)
    tensor = mesh.shape["tensor"]
    rows = batch_shape[0] // (mesh.shape["data"] * mesh.shape["fsdp"] * micro_batches)
    tokens = rows * batch_shape[1]
    width, heads, kv, ffn = _KEPT[model.remat]
    size = np.dtype(model.dtype).itemsize if model.dtype != "bfloat16" else 2
    split = (heads * c.num_heads * c.head_dim + kv * c.num_kv_heads * c.head_dim + ffn * c.ffn) // tensor
    layers = c.num_layers * tokens * size * (c.width * (1 + width) + split)
    logits = 2 * 4 * rows * min(chunk or batch_shape[1], batch_shape[1]) * c.vocab_size // tensor
    return Estimate(
        state=trainable + memory.sharded(state.optimizer, shardings[0].optimizer),
        frozen=0 if frozen is None else memory.sharded(frozen, shardings[1]),
        gradients=trainable * (2 if micro_batches > 1 else 1),
        activations=layers + logits,
    )


def check(needed: Estimate, mesh: Mesh) -> None:
    """Refuses a run that cannot fit.

    Raises:
      UserError: with what is needed and what there is.
    """
    memory.check("training", needed._asdict(), ADVICE, mesh)
