"""What trains: all weights, or adapters on frozen ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.models import lora as lora_

Params = Any
DROPOUT_STREAM, INIT_STREAM = 0, 1


class Tuning(NamedTuple):
    """Splits parameters into what trains and what stays.

    Attributes:
      init: (key, params) -> trainable, always a fresh copy: the step donates it.
      freeze: params -> frozen, the same arrays.
      attach: (trainable, frozen, dropout key or None) -> parameters for the model.
      reference: frozen -> parameters of the reference, the model before training; None where they were not kept.
      dropout: rate; 0 for a deterministic step.
      adapters: whether the trainable part is adapters, beside the weights and not instead of them.
    """

    init: Callable[[jax.Array, Params], Params]
    freeze: Callable[[Params], Params | None]
    attach: Callable[[Params, Params, jax.Array | None], Params]
    reference: Callable[[Params], Params | None]
    dropout: float = 0.0
    adapters: bool = False


def full(reference: bool = False) -> Tuning:
    """Trains all weights, as float32 master weights; the model casts them where it computes.

    Args:
      reference: keep the weights as they were, for objectives that compare with them.
    """

    def init(key: jax.Array, params: Params) -> Params:
        del key
        return jax.tree.map(lambda a: jnp.array(a, jnp.float32, copy=True), params)

    def freeze(params: Params) -> Params | None:
        return params if reference else None

    return Tuning(init, freeze, lambda trainable, frozen, key: trainable, lambda frozen: frozen)


def lora(
    rank: int, alpha: float, dropout: float = 0.0, targets: str = lora_.ALL_KERNELS, dtype: str = "float32"
) -> Tuning:
    """Trains low-rank adapters (Hu et al. 2021, arXiv 2106.09685); the reference is the same weights without them.

    Args:
      rank: R.
      alpha: the adapters' output is scaled by alpha / rank.
      dropout: rate on the adapters' inputs.
      targets: a regular expression of kernel names: q, k, v, o, gate, up, down.
      dtype: of the adapters.
    """

    def init(key: jax.Array, params: Params) -> Params:
        return lora_.init(key, params, rank, targets, dtype)

    def attach(trainable: Params, frozen: Params, key: jax.Array | None) -> Params:
        return lora_.attach(frozen, trainable, alpha / rank, dropout, key)

    return Tuning(init, lambda params: params, attach, lambda frozen: frozen, dropout, adapters=True)
