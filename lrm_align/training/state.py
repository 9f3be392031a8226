"""Everything of a run that changes, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrm_align.training.tuning import INIT_STREAM, Tuning


class State(NamedTuple):
    """What a step takes and gives back; its buffers are donated to the step.

    Attributes:
      step: int32, steps done.
      trainable: weights, or adapters.
      optimizer: state of the gradient transformation.
      key: the run's PRNG key; it never changes, randomness comes from folding in the step.
    """

    step: Any
    trainable: Any
    optimizer: Any
    key: Any


def init_state(key: jax.Array, params: Any, tuning: Tuning, transform: optax.GradientTransformation) -> State:
    """A fresh state, as a pure function; `sharding.start` puts one on a mesh.

    Args:
      key: of the run.
      params: the model to start from.
      tuning: what trains.
      transform: the optimizer's.
    """
    trainable = tuning.init(jax.random.fold_in(key, INIT_STREAM), params)
    return State(jnp.int32(0), trainable, transform.init(trainable), key)
