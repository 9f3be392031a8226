"""Logical axis names of parameters and activations, mapped onto mesh axes by a table."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrm_align.errors import UserError
from lrm_align.models.projection import INPUTS

# Mesh axes: `data` replicates parameters, `fsdp` shards both batch and parameters, `tensor` splits heads and ffn.
DEFAULT_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("batch", ("data", "fsdp")),
    ("width", ("fsdp",)),
    ("heads", ("tensor",)),
    ("kv_heads", ("tensor",)),
    ("ffn", ("tensor",)),
    ("vocab", ("tensor",)),
    # While tokens are scored, devices that share rows' parameters share the vocabulary instead of the rows.
    ("scored_rows", ("data",)),
    ("scored_vocab", ("fsdp", "tensor")),
)

PARAMETER_AXES: Mapping[str, tuple[str | None, ...]] = {
    "embed": ("vocab", "width"),
    "head": (None, "scored_vocab"),
    "final_norm": (None,),
    "attn_norm": (None, None),
    "mlp_norm": (None, None),
    "q": (None, "width", "heads", None),
    "k": (None, "width", "kv_heads", None),
    "v": (None, "width", "kv_heads", None),
    "o": (None, "heads", None, "width"),
    "q_bias": (None, "heads", None),
    "k_bias": (None, "kv_heads", None),
    "v_bias": (None, "kv_heads", None),
    "o_bias": (None, None),
    "q_norm": (None, None),
    "k_norm": (None, None),
    "gate": (None, "width", "ffn"),
    "up": (None, "width", "ffn"),
    "down": (None, "ffn", "width"),
    "gate_bias": (None, "ffn"),
    "up_bias": (None, "ffn"),
    "down_bias": (None, None),
}

Rules = tuple[tuple[str, tuple[str, ...]], ...]


def spec(axes: tuple[str | None, ...], rules: Rules = DEFAULT_RULES) -> P:
    """The `PartitionSpec` of an array whose dimensions have these logical names.

    >>> spec((None, "width", "heads", None)) == P(None, "fsdp", "tensor", None)
    True
    """
    table = dict(rules)
    names = [table.get(axis, ()) if axis is not None else () for axis in axes]
    return P(*[(n[0] if len(n) == 1 else n) if n else None for n in names])


def parameter_specs(params: Any, rules: Rules = DEFAULT_RULES) -> Any:
    """A tree of `PartitionSpec`s of the same structure: of parameters, of adapters, or of parameters with adapters.

    An adapter's A is split as the base kernel's inputs are, its B as the outputs are; the rank is never split.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: spec(_axes(path), rules), params)


def shardings(params: Any, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> Any:
    """A tree of `NamedSharding`s of the same structure as `params` (arrays, or their shapes).

    Raises:
      UserError: a dimension that the mesh does not divide evenly.
    """

    def sharding(path, leaf):
        names = spec(_axes(path), rules)
        for dimension, (size, entry) in enumerate(zip(leaf.shape, tuple(names))):
            if size % ways(mesh, entry):
                axes = (entry,) if isinstance(entry, str) else entry
                raise UserError(
                    f"the mesh {dict(mesh.shape)} splits dimension {dimension} of {jax.tree_util.keystr(path)} "
                    f"{list(leaf.shape)} over {' × '.join(axes)} = {ways(mesh, entry)}, which does not divide {size}"
                )
        return NamedSharding(mesh, names)

    return jax.tree_util.tree_map_with_path(sharding, params)


def _axes(path: tuple[Any, ...]) -> tuple[str | None, ...]:
    name, parent = _name(path[-1]), _name(path[-2]) if len(path) > 1 else None
    if parent not in INPUTS:
        return PARAMETER_AXES[name]
    base, inputs = PARAMETER_AXES[parent], 1 + INPUTS[parent]
    parts = {"base": base, "a": (*base[:inputs], None), "b": (None, None, *base[inputs:]), "key": (None,)}
    return parts[name]


def _name(entry: Any) -> str:
    return entry.name if isinstance(entry, jax.tree_util.GetAttrKey) else entry.key


def ways(mesh: Mesh | AbstractMesh, entry: str | tuple[str, ...] | None) -> int:
    """The number of pieces that one entry of a `PartitionSpec` cuts a dimension into."""
    axes = (entry,) if isinstance(entry, str) else entry or ()
    return math.prod(mesh.shape[axis] for axis in axes)


def platform() -> str:
    """What is compiled for: the platform of the mesh in context, which need not be this host's, or the default one."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def replicated(tree: Any) -> Any:
    """Pins arrays whole to every device of the mesh in context: what each process of a run shall read."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, P()), tree)


def on_host(array: Any) -> np.ndarray:
    """The whole array as NumPy; where its parts lie with several processes, all of them must call this."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def constrain(x: jax.Array, axes: tuple[str | None, ...], rules: Rules = DEFAULT_RULES) -> jax.Array:
    """Pins an activation's sharding on the mesh in context; does nothing where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, spec(axes, rules))
