"""Whether weights, caches and logits fit a device, or a CPU's host: counted by shapes, before anything is read."""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lrm_align.errors import UserError
from lrm_align.models import partition
from lrm_align.models.decoder import Model

GIB = 2**30
CGROUP = pathlib.Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and 1


class Room(NamedTuple):
    """What there is.

    Attributes:
      bytes: of the memory; 0 where a device does not tell.
      where: for messages.
      shared: how many devices share it: those of a CPU.
    """

    bytes: int
    where: str
    shared: int


def room(mesh: Mesh | None = None) -> Room:
    """The memory of one device of a mesh, or of the first device."""
    every = list(mesh.devices.flat) if mesh is not None else jax.devices()[:1]
    # A device of another process tells nothing; of a topology that is compiled for ahead of time, none is ours.
    mine = [device for device in every if device.process_index == jax.process_index()] or every
    device = mine[0]
    if device.platform == "cpu":
        return Room(host(), "this host", len(mine))
    stats = device.memory_stats() or {}
    return Room(stats.get("bytes_limit", 0), f"a {device.device_kind}", 1)


def host(cgroup: pathlib.Path = CGROUP) -> int:
    """Bytes of this host's memory, or of what a container may have of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _LIMITS:
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(total, int(text))
    return total


def weights(model: Model, shapes: Any, mesh: Mesh | None = None) -> int:
    """Bytes of parameters on one device.

    Args:
      model: whose rules shard them.
      shapes: as `hf.shapes`.
      mesh: one device where None.
    """
    if mesh is None or mesh.size == 1:
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return sharded(shapes, partition.shardings(shapes, mesh, model.rules))


def sharded(tree: Any, shardings: Any) -> int:
    """Bytes on one device of arrays, or of their shapes."""

    def one(leaf: Any, sharding: jax.sharding.Sharding) -> int:
        return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, shardings)))


def decoding(model: Model, slots: int, length: int, mesh: Mesh | None = None) -> dict[str, int]:
    """Bytes on one device of an engine beside its weights: the caches of its slots, and a step's logits.

    A draw holds some six arrays of float32 over the vocabulary: logits, sorted, summed, noise.
    """
    c, itemsize = model.config, 2 if model.dtype == "bfloat16" else np.dtype(model.dtype).itemsize
    batch = 1 if mesh is None else partition.ways(mesh, partition.spec(("batch",), model.rules)[0])
    heads = 1 if mesh is None else partition.ways(mesh, partition.spec(("kv_heads",), model.rules)[0])
    rows = -(-slots // batch)
    cache = 2 * c.num_layers * rows * length * -(-c.num_kv_heads // heads) * c.head_dim * itemsize
    return {"caches": cache, "logits": 6 * 4 * rows * c.vocab_size}


def check(what: str, needed: Mapping[str, int], advice: str, mesh: Mesh | None = None) -> None:
    """Refuses what cannot fit.

    Args:
      what: needs the memory, "sampling with …".
      needed: bytes on one device at least, by what for.
      advice: what helps.
      mesh: of the devices.

    Raises:
      UserError: with what is needed and what there is.
    """
    there = room(mesh)
    total = sum(needed.values()) * there.shared
    if there.bytes and total > there.bytes:
        parts = ", ".join(f"{name} {value / GIB:.1f}" for name, value in needed.items())
        one = "on one device: " if there.shared > 1 else ""
        has = f"{there.where} has {there.bytes / GIB:.1f} GiB"
        raise UserError(f"{what} needs at least {total / GIB:.1f} GiB, {has} ({one}{parts}); {advice}")
