"""Model FLOPs counted by formula, and the peaks they are compared with."""

import math

import jax

from lrm_align.models import ModelConfig

# Dense bfloat16 FLOP/s of one JAX device (for TPU7x half a chip), from the vendors' data sheets.
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """Peak of a device by its kind; None for a CPU or an unknown one, which then has no MFU.

    The longest name that starts the device's kind counts: "NVIDIA H200" of "NVIDIA H200 SXM".
    """
    found = [name for name in PEAK if device.device_kind.startswith(name)]
    return PEAK[max(found, key=len)] if found else None


def matmul_parameters(config: ModelConfig) -> int:
    """Parameters that every token is multiplied with: the blocks' kernels and the head, not the embedding's lookup."""
    c = config
    attention = c.width * c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads)
    return c.num_layers * (attention + 3 * c.width * c.ffn) + c.width * c.vocab_size


def step_flops(
    config: ModelConfig, tokens: float, attended: float, *, adapter_parameters: int = 0, reference: bool = False
) -> float:
    """Model FLOPs of a step over its real tokens; what remat computes again does not count.

    A token costs 2 FLOPs for each matmul parameter forward, 2 for the gradient of its input, 2 for that of the weight;
    frozen weights have no such gradient, so LoRA costs 4 on the base and 6 on the adapters. Attention costs
    4 · layers · heads · head_dim for each key a token sees, forward, and twice that backward.

    Args:
      config: of the model.
      tokens: real tokens.
      attended: keys seen, summed over the tokens: n(n+1)/2 for a trace of n.
      adapter_parameters: with LoRA, its size; 0 trains all weights.
      reference: whether the reference runs forward as well.

    >>> tiny = ModelConfig("qwen3", 10, 4, 8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=2)
    >>> matmul_parameters(tiny), step_flops(tiny, tokens=1, attended=1)
    (184, 1152.0)
    """
    per_token = 2.0 * matmul_parameters(config)
    per_key = 4.0 * config.num_layers * config.num_heads * config.head_dim
    if adapter_parameters:
        total = tokens * (2 * per_token + 6.0 * adapter_parameters) + 3 * attended * per_key
    else:
        total = 3 * (tokens * per_token + attended * per_key)
    return total + (tokens * per_token + attended * per_key if reference else 0.0)


def count(tree: object) -> int:
    """Number of parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
