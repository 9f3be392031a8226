"""Low-rank adapters as a transform of parameters (Hu et al. 2021, arXiv 2106.09685).

The model knows nothing of adapters but `projection.LoraKernel`. What trains is the small tree that `init` makes;
`attach` puts it on frozen parameters; the reference model is the same parameters without it.
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.errors import UserError
from lrm_align.models.projection import INPUTS, LoraKernel, merged

Adapters = dict[str, dict[str, jax.Array]]  # {kernel: {"a": L × in… × R, "b": L × R × out…}}

ALL_KERNELS = "|".join(INPUTS)


def init(key: jax.Array, params: Any, rank: int, targets: str = ALL_KERNELS, dtype: str = "float32") -> Adapters:
    """Fresh adapters: A uniform in ±1/√in (Kaiming with a = √5, as peft), B zero, so that they change nothing yet.

    Args:
      key: PRNG key.
      params: parameters, or their shapes.
      rank: R.
      targets: a regular expression that whole kernel names match: q, k, v, o, gate, up, down.
      dtype: of the adapters.

    Raises:
      UserError: a rank below one, a damaged expression, or one that matches no kernel.

    >>> layers = {"q": jnp.zeros((2, 8, 4, 2)), "o": jnp.zeros((2, 4, 2, 8))}
    >>> jax.tree.map(jnp.shape, init(jax.random.key(0), {"layers": layers}, rank=3, targets="q|o"))
    {'o': {'a': (2, 4, 2, 3), 'b': (2, 3, 8)}, 'q': {'a': (2, 8, 3), 'b': (2, 3, 4, 2)}}
    """
    if rank < 1:
        raise UserError(f"LoRA's rank is {rank}; it must be at least 1")
    adapters: Adapters = {}
    for number, name in enumerate(INPUTS):
        if name not in matched(targets):
            continue
        layers, *shape = params["layers"][name].shape
        inputs = tuple(shape[: INPUTS[name]])
        bound = 1 / math.sqrt(math.prod(inputs))
        # The kernel's number, not its place among the targets: its numbers stay when the targets change.
        a = jax.random.uniform(
            jax.random.fold_in(key, number), (layers, *inputs, rank), minval=-bound, maxval=bound, dtype=jnp.float32
        )
        b = jnp.zeros((layers, rank, *shape[INPUTS[name] :]), dtype)
        adapters[name] = {"a": a.astype(dtype), "b": b}
    return adapters


def matched(targets: str) -> tuple[str, ...]:
    """The kernels that a regular expression means.

    Raises:
      UserError: it is no regular expression, or matches nothing.

    >>> matched("q|v")
    ('q', 'v')
    """
    try:
        names = tuple(name for name in INPUTS if re.fullmatch(targets, name))
    except re.error as error:
        raise UserError(f"LoRA's targets {targets!r} are no regular expression: {error}") from None
    if not names:
        raise UserError(f"LoRA's targets {targets!r} match no kernel; the kernels are {', '.join(INPUTS)}")
    return names


def attach(params: Any, adapters: Adapters, scale: float, dropout: float = 0.0, key: jax.Array | None = None) -> Any:
    """The parameters with adapters on them, to be used wherever parameters are.

    Args:
      params: the frozen parameters; no gradient flows into the adapted kernels' other uses unless asked for.
      adapters: of `init`.
      scale: alpha / rank.
      dropout: rate on the adapters' inputs; acts only where a key is given.
      key: of this step; every kernel of every layer gets its own.
    """
    layers = dict(params["layers"])
    for name, adapter in adapters.items():
        keys = None
        if key is not None and dropout > 0:
            kernel_key = jax.random.fold_in(key, tuple(INPUTS).index(name))
            keys = jax.vmap(jax.random.fold_in, (None, 0))(kernel_key, jnp.arange(adapter["a"].shape[0]))
        layers[name] = LoraKernel(layers[name], adapter["a"], adapter["b"], keys, scale, dropout)
    return {**params, "layers": layers}


def detach(params: Any) -> Any:
    """The parameters without adapters: the reference model."""
    layers = {name: leaf.base if isinstance(leaf, LoraKernel) else leaf for name, leaf in params["layers"].items()}
    return {**params, "layers": layers}


def merge(params: Any) -> Any:
    """Plain parameters of the same function (without dropout): W + scale·A·B, added in float32, in W's dtype."""
    layers = {
        name: jax.lax.map(lambda kernel, n=INPUTS[name]: merged(kernel, n), leaf)
        if isinstance(leaf, LoraKernel)
        else leaf
        for name, leaf in params["layers"].items()
    }
    return {**params, "layers": layers}
