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

# A layer's weights are gathered whole while the layer before it computes, instead of piece by piece inside each
# product: half the loops to compile, and no copies of the pieces.
TPU_OPTIONS: dict[str, str | bool] = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


def state_shardings(state: State, transform: optax.GradientTransformation, mesh: Mesh, rules: partition.Rules) -> State:
    """Shardings of a state (arrays, or shapes): the optimizer's moments lie as what they belong to."""
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
    key: jax.Array, params: Any, tuning: Tuning, transform: optax.GradientTransformation, shardings: State
) -> State:
    """A fresh state on the mesh.

    `params` stay usable: what trains is copied first, and nothing that might hand its input on as its output is
    compiled over it.
    """
    trainable = tuning.init(jax.random.fold_in(key, INIT_STREAM), params)
    trainable = jax.device_put(trainable, shardings.trainable)
    optimizer = jax.jit(transform.init, out_shardings=shardings.optimizer)(trainable)
    step, own_key = jax.device_put((jnp.int32(0), jax.random.clone(key)), (shardings.step, shardings.key))
    return State(step, trainable, optimizer, own_key)


def frozen_shardings(frozen: Any, mesh: Mesh, rules: partition.Rules = partition.DEFAULT_RULES) -> Any:
    """Shardings of frozen parameters (None of None)."""
    return None if frozen is None else partition.shardings(frozen, mesh, rules)


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
    jitted = jax.jit(
        step,
        in_shardings=(shardings, frozen_shardings(frozen, mesh, rules), batch_sharding(mesh, rules)),
        out_shardings=(shardings, NamedSharding(mesh, P())),
        donate_argnums=0,
    )
    options = TPU_OPTIONS if mesh.devices.flat[0].platform == "tpu" else None
    with jax.set_mesh(mesh):
        return jitted.lower(state, frozen, batch).compile(options)
