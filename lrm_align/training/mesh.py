"""The mesh `data × fsdp × tensor` of a run, and whether model and batch fit its shape."""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AxisType, Mesh

from lrm_align import processes
from lrm_align.errors import UserError
from lrm_align.models import ModelConfig

AXES = ("data", "fsdp", "tensor")


def make_mesh(sizes: Mapping[str, int] | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config.

    Args:
      sizes: of the axes data, fsdp and tensor; 1 where left out; one of them may be -1 and takes what is left.
      devices: all of them where None.

    Raises:
      UserError: an unknown axis, sizes that need more devices than there are, or a -1 that does not come out even.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(sizes or {})
    if unknown := sorted(set(sizes) - set(AXES)):
        raise UserError(f"mesh: unknown axes {', '.join(unknown)}; the axes are {', '.join(AXES)}")
    shape = [sizes.get(axis, 1) for axis in AXES]
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"mesh: sizes must be positive, and one of them may be -1; found {dict(zip(AXES, shape))}")
    if -1 in shape:
        rest = -math.prod(shape)
        if len(devices) % rest:
            raise UserError(
                f"mesh: {len(devices)} devices cannot be shared by axes of {rest}: {dict(zip(AXES, shape))}"
            )
        shape[shape.index(-1)] = len(devices) // rest
    needed = math.prod(shape)
    if needed > len(devices):
        raise UserError(
            f"mesh: {dict(zip(AXES, shape))} needs {needed} devices, there are {len(devices)} "
            f"({devices[0].device_kind}); make the axes smaller"
        )
    if needed < len(devices) and processes.count() > 1:
        raise UserError(f"mesh: {needed} of {len(devices)} devices are used, but with several hosts all must be")
    mesh = jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:needed])
    processes.acquaint(mesh)
    return mesh


def check_fit(mesh: Mesh, config: ModelConfig, rows: int, micro_batches: int = 1) -> None:
    """Checks divisibility before anything is compiled.

    Args:
      mesh: of `make_mesh`.
      config: of the model.
      rows: in a global batch.
      micro_batches: pieces that a batch is cut into.

    Raises:
      UserError: rows that don't divide by the pieces and the mesh's batch axes, or heads, ffn, vocabulary or width that
        don't divide by tensor or fsdp.
    """
    if micro_batches < 1:
        raise UserError(f"train.micro_batches is {micro_batches}; it must be at least 1")
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % (ways * micro_batches):
        raise UserError(
            f"a batch of {rows} rows does not divide into {micro_batches} micro-batches over the mesh's "
            f"data × fsdp = {mesh.shape['data']} × {mesh.shape['fsdp']}; the rows must be a multiple of "
            f"{ways * micro_batches}"
        )
    for axis, sizes in {
        "tensor": {
            "query heads": config.num_heads,
            "key-value heads": config.num_kv_heads,
            "ffn": config.ffn,
            "vocabulary": config.vocab_size,
        },
        "fsdp": {"width": config.width},
    }.items():
        for name, size in sizes.items():
            if size % mesh.shape[axis]:
                raise UserError(f"mesh: {axis} = {mesh.shape[axis]} does not divide the model's {name}, {size}")
