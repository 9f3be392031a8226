"""A reference that follows the policy now and then: kept in the optimizer's state, so that a checkpoint holds it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrm_align.errors import UserError
from lrm_align.training.optimizers import Optimizer
from lrm_align.training.state import State
from lrm_align.training.step import Reference
from lrm_align.training.tuning import Tuning


class Synced(NamedTuple):
    """State of `synced`: updates done, and the reference, of the shape of what trains."""

    count: Any
    reference: Any


def synced(optimizer: Optimizer, every: int, mixup: float) -> Optimizer:
    """The optimizer, with a reference beside it: every `every` updates π_ref ← mixup·π_θ + (1 - mixup)·π_ref.

    TR-DPO's soft update (Gorbatovski et al. 2024, arXiv 2404.09656), as TRL's `sync_ref_model`, whose defaults are 512
    and 0.6. It starts as what trains does: adapters that do nothing, or a copy of the weights.

    >>> both = synced(Optimizer(optax.sgd(1.0), lambda step: 1.0), every=2, mixup=0.5)
    >>> weight, state = jnp.array(0.0), both.transform.init(jnp.array(0.0))
    >>> for _ in range(2):
    ...     updates, state = both.transform.update(jnp.array(-1.0), state, weight)
    ...     weight = weight + updates
    >>> float(weight), float(state[-1].reference)
    (2.0, 1.0)

    Raises:
      UserError: numbers out of their ranges.
    """
    if every < 1 or not 0 < mixup <= 1:
        raise UserError(f"rl.reference: sync_every is {every} and mixup {mixup}; wanted at least 1, and above 0 to 1")

    def init(params: Any) -> Synced:
        return Synced(jnp.int32(0), jax.tree.map(lambda a: jnp.array(a, copy=True), params))

    def update(updates: Any, state: Synced, params: Any) -> tuple[Any, Synced]:
        count = state.count + 1
        share = jnp.where(count % every == 0, mixup, 0.0)

        def mixed(reference: jax.Array, old: jax.Array, change: jax.Array) -> jax.Array:
            return (reference + share * (old + change - reference)).astype(reference.dtype)

        return updates, Synced(count, jax.tree.map(mixed, state.reference, params, updates))

    follow = optax.GradientTransformation(init, update)
    return Optimizer(optax.chain(optimizer.transform, follow), optimizer.learning_rate)


def reference_of(tuning: Tuning) -> Reference:
    """(state, frozen) -> the parameters of the reference that `synced` keeps."""

    def reference(state: State, frozen: Any) -> Any:
        return tuning.attach(state.optimizer[-1].reference, frozen, None)

    return reference
