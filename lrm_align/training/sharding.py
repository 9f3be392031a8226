"""Where state, frozen parameters and batches lie on a mesh, and the compiled step over them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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


class Share(NamedTuple):
    """Which part of every batch's rows a process makes: the `host`-th of `hosts` equal, consecutive parts."""

    host: int
    hosts: int


def share(mesh: Mesh, rules: partition.Rules = partition.DEFAULT_RULES) -> Share:
    """The rows that this process's devices hold.

    Processes whose devices hold the same rows, since a tensor axis spans them, make the same ones. Where the rows of a
    process are not consecutive, or the parts of two overlap, each makes all of them.
    """
    blocks = partition.ways(mesh, partition.spec(("batch",), rules)[0])
    rows_of: dict[int, set[int]] = {}
    places: dict[Any, Any] = dict(batch_sharding(mesh, rules).devices_indices_map((blocks,)))
    for device, (rows, *_) in places.items():
        rows_of.setdefault(device.process_index, set()).update(range(*rows.indices(blocks)))
    parts = sorted({tuple(sorted(rows)) for rows in rows_of.values()})
    size = blocks // len(parts)
    if parts != [tuple(range(i * size, (i + 1) * size)) for i in range(len(parts))]:
        return Share(0, 1)
    return Share(parts.index(tuple(sorted(rows_of[jax.process_index()]))), len(parts))


def global_batch(batch: Batch, mesh: Mesh, rules: partition.Rules = partition.DEFAULT_RULES) -> Batch:
    """This process's rows, those of its `share`, as part of the global batch on the mesh."""
    sharding, mine = batch_sharding(mesh, rules), share(mesh, rules)
    if mine.hosts == 1:
        return jax.tree.map(lambda a: put(a, sharding), batch)

    def placed(rows: np.ndarray) -> jax.Array:
        first, shape = mine.host * len(rows), (mine.hosts * len(rows), *rows.shape[1:])

        def part(index: Any) -> np.ndarray:
            begin, end, _ = index[0].indices(shape[0])
            return rows[begin - first : end - first]

        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(placed, batch)


def put(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array, on a mesh whose devices may belong to several processes; each of them holds the whole array."""
    if isinstance(array, jax.Array):
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            if sharding.is_fully_addressable:
                return jax.device_put(array, sharding)
            return jax.random.wrap_key_data(put(jax.random.key_data(array), sharding), impl=jax.random.key_impl(array))
        if sharding.is_fully_addressable or not array.is_fully_addressable:
            return jax.device_put(array, sharding)
    elif sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def start(
    key: jax.Array, params: Any, tuning: Tuning, transform: optax.GradientTransformation, shardings: State
) -> State:
    """A fresh state on the mesh.

    `params` stay usable: what trains is copied first, and nothing that might hand its input on as its output is
    compiled over it.
    """
    trainable = tuning.init(jax.random.fold_in(key, INIT_STREAM), params)
    trainable = jax.tree.map(put, trainable, shardings.trainable)
    optimizer = jax.jit(transform.init, out_shardings=shardings.optimizer)(trainable)
    step, own_key = put(jnp.int32(0), shardings.step), put(jax.random.clone(key), shardings.key)
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
