"""Where state, frozen parameters and batches lie on a mesh, and the compiled step over them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrm_align.batch import Batch
from lrm_align.models import partition
from lrm_align.training.state import State
from lrm_align.training.step import Step
from lrm_align.training.tuning import INIT_STREAM, Tuning


def state_shardings(state: State, transform: optax.GradientTransformation, mesh: Mesh, rules: partition.Rules) -> State:
    """Shardings of a state (arrays or shapes): the optimizer's moments lie as what they belong to, scalars everywhere."""
    replicated = NamedSharding(mesh, P())
    trainable = partition.shardings(state.trainable, mesh, rules)
    optimizer = optax.tree.map_params(
        transform, lambda _, s: s, state.optimizer, trainable, transform_non_params=lambda _: replicated
    )
    return State(replicated, trainable, optimizer, replicated)


def batch_sharding(mesh: Mesh, rules: partition.Rules = partition.DEFAULT_RULES) -> NamedSharding:
    """Rows over the batch axes; a prefix for every array of a batch."""
    return NamedSharding(mesh, partition.spec(("batch",), rules))


def global_batch(batch: Batch, mesh: Mesh, rules: partition.Rules = partition.DEFAULT_RULES) -> Batch:
    """This host's rows as part of the global batch on the mesh."""
    sharding = batch_sharding(mesh, rules)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)


def start(
    key: jax.Array,
    params: Any,
    tuning: Tuning,
    transform: optax.GradientTransformation,
    mesh: Mesh,
    rules: partition.Rules = partition.DEFAULT_RULES,
) -> tuple[State, Any]:
    """A fresh state and the frozen parameters on the mesh.

    `params` stay usable: what trains is copied first, and no function that might forward its input is compiled over it.
    """
    trainable = tuning.init(jax.random.fold_in(key, INIT_STREAM), params)
    trainable = jax.device_put(trainable, partition.shardings(trainable, mesh, rules))
    shapes = State(jnp.int32(0), trainable, jax.eval_shape(transform.init, trainable), key)
    shardings = state_shardings(shapes, transform, mesh, rules)
    optimizer = jax.jit(transform.init, out_shardings=shardings.optimizer)(trainable)
    step, own_key = jax.device_put((jnp.int32(0), jax.random.clone(key)), (shardings.step, shardings.key))
    frozen = tuning.freeze(params)
    if frozen is not None:
        frozen = jax.device_put(frozen, partition.shardings(frozen, mesh, rules))
    return State(step, trainable, optimizer, own_key), frozen


def compile_step(
    step: Step,
    state: State,
    frozen: Any,
    batch: Batch,
    transform: optax.GradientTransformation,
    mesh: Mesh,
    rules: partition.Rules = partition.DEFAULT_RULES,
) -> jax.stages.Compiled:
    """Compiles the step for these shapes, once: another shape is an error, never a silent recompilation.

    The state is donated; its new shardings are those of the old one, said explicitly (left to the compiler they come
    out replicated).

    Args:
      step: of `make_step`.
      state, frozen, batch: arrays, or their shapes (for a compilation ahead of time).
      transform: the optimizer's.
      mesh: of the run.
      rules: logical axes to mesh axes.
    """
    shardings = state_shardings(state, transform, mesh, rules)
    frozen_shardings = None if frozen is None else partition.shardings(frozen, mesh, rules)
    jitted = jax.jit(
        step,
        in_shardings=(shardings, frozen_shardings, batch_sharding(mesh, rules)),
        out_shardings=(shardings, NamedSharding(mesh, P())),
        donate_argnums=0,
    )
    with jax.set_mesh(mesh):
        return jitted.lower(state, frozen, batch).compile()
