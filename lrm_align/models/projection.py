"""Matrix products with kernels that may carry a low-rank adapter."""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class LoraKernel:
    """A frozen kernel with a trainable low-rank correction: W + (scale)·A·B (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
      base: W of shape in + out (with a leading L when stacked).
      a: A of shape in + (R,).
      b: B of shape (R,) + out.
      key: PRNG key of the dropout on the adapter's input, or None for none.
      scale: alpha / rank.
      dropout: rate.
    """

    base: jax.Array
    a: jax.Array
    b: jax.Array
    key: jax.Array | None = None
    scale: float = 1.0
    dropout: float = 0.0


jax.tree_util.register_dataclass(LoraKernel, data_fields=["base", "a", "b", "key"], meta_fields=["scale", "dropout"])

Kernel = jax.Array | LoraKernel

# The leading axes (after the layers') that each kernel of a block contracts with its input.
INPUTS = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def project(x: jax.Array, kernel: Kernel, inputs: int = 1) -> jax.Array:
    """Contracts the last `inputs` axes of x with the first `inputs` axes of the kernel, in x's dtype.

    With an adapter: x·W + scale · (dropout(x)·A)·B.
    """
    if not isinstance(kernel, LoraKernel):
        return _product(x, kernel, inputs)
    y = _product(x, kernel.base, inputs)
    low = x
    if kernel.dropout > 0 and kernel.key is not None:
        keep = jax.random.bernoulli(kernel.key, 1 - kernel.dropout, x.shape)
        low = jnp.where(keep, x / (1 - kernel.dropout), 0).astype(x.dtype)
    return y + kernel.scale * _product(_product(low, kernel.a, inputs), kernel.b)


def _product(x: jax.Array, kernel: jax.Array, inputs: int = 1) -> jax.Array:
    """Contracts as a product of two matrices.

    With more axes in the kernel XLA lays the kernels out anew, all layers at once; with more axes in x its CPU backend
    transposes x for the kernel's gradient, which doubles the time.
    """
    rows, ins, outs = x.shape[:-inputs], kernel.shape[:inputs], kernel.shape[inputs:]
    matrix = kernel.astype(x.dtype).reshape(math.prod(ins), math.prod(outs))
    return (x.reshape(-1, math.prod(ins)) @ matrix).reshape(*rows, *outs)


def merged(kernel: Kernel, inputs: int = 1) -> jax.Array:
    """The plain kernel that gives the same product: W + scale·A·B, added in float32, in W's dtype."""
    if not isinstance(kernel, LoraKernel):
        return kernel
    rank = kernel.a.shape[-1]
    in_shape, out_shape = kernel.a.shape[:-1], kernel.b.shape[1:]
    if len(in_shape) != inputs:
        raise ValueError(f"kernel of shape {kernel.base.shape} is stacked or contracts {len(in_shape)} axes")
    a = kernel.a.astype(jnp.float32).reshape(math.prod(in_shape), rank)
    b = kernel.b.astype(jnp.float32).reshape(rank, math.prod(out_shape))
    delta = kernel.scale * jnp.dot(a, b, precision="highest").reshape(in_shape + out_shape)
    return (kernel.base.astype(jnp.float32) + delta).astype(kernel.base.dtype)
