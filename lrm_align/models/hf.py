"""Loads a Hugging Face directory straight into (sharded) device arrays."""

import concurrent.futures
import math
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding

from lrm_align import untrusted
from lrm_align.errors import UserError
from lrm_align.models import finite, generation, hf_files, hf_map, memory, partition
from lrm_align.models.config import ModelConfig
from lrm_align.models.decoder import Model, Params
from lrm_align.models.hf_write import save
from lrm_align.models.safetensors_io import StoredTensor

__all__ = ["check", "load", "on_cpu", "save", "shapes"]

Threads = Callable[..., Iterable[Any]]  # `map`, or that of a pool
READERS = min(8, os.cpu_count() or 1)  # threads
# Numbers that some checkpoints carry though they follow from the config.
_DERIVED = ("rotary_emb.inv_freq",)


def load(
    path_or_hub_id: str | epath.PathLike,
    mesh: Mesh | None = None,
    dtype: str | None = None,
    *,
    compute_dtype: str = "float32",
    **options: Any,
) -> tuple[Model, Params]:
    """Reads config and weights; needs no tokenizer.

    Every device's part of every array is read from the files by itself, layer by layer, so that the host holds one
    array's part at a time and never a second copy of the model.

    Args:
      path_or_hub_id: a directory, or a hub id.
      mesh: shards the parameters by the model's rules; one device where None.
      dtype: of the parameters; as stored where None.
      compute_dtype: of activations, `Model.dtype`.
      **options: further fields of `Model`: remat, attention, scan, rules.

    Warns:
      RuntimeWarning: weights that are NaN or infinite, by name.

    Raises:
      UserError: no such model, an architecture that is not supported, weights that don't match the config, damaged
        files, dimensions that the mesh does not divide, or more weights than memory holds.
    """
    directory = hf_files.resolve(path_or_hub_id)
    config, shapes, stored = _agreeing(directory)
    model = Model(config, dtype=compute_dtype, **options)
    shardings = None if mesh is None else partition.shardings(shapes, mesh, model.rules)
    held = memory.weights(model, _described(config, shapes, stored, dtype), mesh)
    memory.check(f"loading {directory}", {"weights": held}, "take a smaller model, or more devices", mesh)
    unsound: dict[str, None] = {}

    def read(path, leaf, sharding=None):
        weight = hf_map.weight_of(config, path)
        parts = _parts(weight, leaf, stored)
        kind = np.dtype(dtype) if dtype else _dtype(parts)
        return _device_array(weight, parts if weight.stacked else parts[0], leaf.shape, kind, sharding, unsound)

    trees = (shapes,) if shardings is None else (shapes, shardings)
    params = jax.tree_util.tree_map_with_path(read, *trees)
    if unsound:
        warnings.warn(f"{directory}: {finite.complaint(unsound)}", RuntimeWarning, stacklevel=2)
    return model, params


def shapes(path_or_hub_id: str | epath.PathLike, dtype: str | None = None) -> Any:
    """Shapes and dtypes of the parameters that `load` gives, from the files' headers alone.

    Raises:
      UserError: as `check`.
    """
    return _described(*_agreeing(hf_files.resolve(path_or_hub_id)), dtype)


def dtypes(path_or_hub_id: str | epath.PathLike, dtype: str | None, mesh: Mesh | None = None) -> dict[str, Any]:
    """`load`'s arguments for parameters and activations of one dtype, float32 where None; see `on_cpu`."""
    held = on_cpu(shapes(path_or_hub_id, dtype), dtype, mesh)
    return {"dtype": held, "compute_dtype": held or "float32"}


def on_cpu(shapes: Any, dtype: str | None, mesh: Mesh | None = None) -> str | None:
    """The dtype in which weights are held: as asked for, but float32 where a CPU would compute in half the bits.

    A CPU has no fast bfloat16: its compiler casts all weights before it uses them, and holds them once more.

    Args:
      shapes: as stored, or as asked for.
      dtype: asked for; None is as stored.
      mesh: where they will lie; the first device where None.
    """
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    halves = any(leaf.dtype in (jnp.bfloat16, jnp.float16) for leaf in jax.tree.leaves(shapes))
    return "float32" if device.platform == "cpu" and halves else dtype


def check(path_or_hub_id: str | epath.PathLike) -> ModelConfig:
    """Compares config and weights by the files' headers, without reading a weight.

    Raises:
      UserError: as `load`, but for the mesh.
    """
    return _agreeing(hf_files.resolve(path_or_hub_id))[0]


def _described(config: ModelConfig, tree: Any, stored: dict[str, StoredTensor], dtype: str | None) -> Any:
    def described(path, leaf):
        kind = np.dtype(dtype) if dtype else _dtype(_parts(hf_map.weight_of(config, path), leaf, stored))
        return jax.ShapeDtypeStruct(leaf.shape, kind)

    return jax.tree_util.tree_map_with_path(described, tree)


def _agreeing(directory: epath.Path) -> tuple[ModelConfig, Any, dict[str, StoredTensor]]:
    place = directory / hf_files.CONFIG
    fields = untrusted.read_object(place)
    config = ModelConfig.from_hf(fields, str(place))
    # An export will join them with another; what is wrong with them is said now.
    generation.eos_ids(fields, str(place))
    generation.directory_eos_ids(directory)
    shapes = jax.eval_shape(Model(config).init, jax.random.key(0))
    stored = hf_files.tensors(directory)
    _check(config, shapes, stored, directory)
    return config, shapes, stored


def _parts(weight: hf_map.Weight, leaf: Any, stored: dict[str, StoredTensor]) -> list[StoredTensor]:
    """The tensors that make up one parameter: one for each layer, or one."""
    return [stored[weight.name.format(i)] for i in range(leaf.shape[0] if weight.stacked else 1)]


def _dtype(parts: list[StoredTensor]) -> np.dtype:
    return jnp.result_type(*{part.dtype for part in parts})


def _device_array(
    weight: hf_map.Weight,
    stored: StoredTensor | list[StoredTensor],
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: NamedSharding | None,
    unsound: dict[str, None],
) -> jax.Array:
    """One parameter on its devices; the names of tensors that are not finite are added to `unsound`."""

    def copied(out: np.ndarray, tensor: StoredTensor, shape: tuple[int, ...], index: Any, among: Threads) -> None:
        # As a plain array: each slice of a mapped file costs a tenth of a millisecond.
        view = np.asarray(weight.view(tensor.open(), shape)[index])

        def copy(block: Any) -> None:
            with np.errstate(over="ignore"):  # what another dtype makes infinite is named with the rest
                _copy(out[block], view[block], weight.inputs)

        list(among(copy, _blocks(out.shape, weight.inputs or 0)))
        if not all(among(lambda block: finite.is_finite(out[block]), _blocks(out.shape, 0))):
            unsound[tensor.name] = None

    def part(index: Any) -> Any:
        size = tuple(len(range(*s.indices(n))) for s, n in zip(index, shape))
        out = _aligned_empty(size, dtype)
        # A copy that turns a kernel round keeps a core busy, and lets go of the interpreter meanwhile.
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            if isinstance(stored, StoredTensor):
                copied(out, stored, shape, index, pool.map)
                return out
            layers = list(enumerate(range(*index[0].indices(shape[0]))))
            list(pool.map(lambda one: copied(out[one[0]], stored[one[1]], shape[1:], index[1:], map), layers))
        return out

    if sharding is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part, dtype=dtype)


def _blocks(shape: tuple[int, ...], axis: int) -> list[tuple[slice, ...]]:
    """An array's blocks along an axis, one a thread."""
    step = max(1, -(-shape[axis] // READERS))
    return [(slice(None),) * axis + (slice(start, start + step),) for start in range(0, shape[axis], step)]


def _copy(out: np.ndarray, view: np.ndarray, inputs: int | None) -> None:
    """out[...] = view; of a transposed view some of the file's rows at a time, which fill whole lines of the cache."""
    put = _widened if (view.dtype, out.dtype) == (jnp.bfloat16, np.float32) else _cast
    if inputs is None:
        put(out, view)
        return
    rows = 32 if put is _widened else 16  # the fastest that were measured
    step = max(1, rows // max(1, math.prod(out.shape[inputs + 1 :])))
    for start in range(0, out.shape[inputs], step):
        block = (slice(None),) * inputs + (slice(start, start + step),)
        put(out[block], view[block])


def _cast(out: np.ndarray, view: np.ndarray) -> None:
    out[...] = view


def _widened(out: np.ndarray, view: np.ndarray) -> None:
    """out[...] = view for bfloat16 as float32, of which it is the upper half: NumPy casts numbers one by one."""
    np.left_shift(view.view(np.uint16), 16, out=out.view(np.uint32), dtype=np.uint32, casting="unsafe")


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that starts at a multiple of 64 bytes: JAX's CPU backend takes such a one over without copying it."""
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def _check(config: ModelConfig, shapes: Any, stored: dict[str, StoredTensor], directory: epath.Path) -> None:
    expected = dict(hf_map.names(config, shapes))
    for name, shape in expected.items():
        if name not in stored:
            hint = " (tie_word_embeddings is false in config.json)" if name == "lm_head.weight" else ""
            raise UserError(
                f"{directory}: the weights lack {name} of shape {list(shape)}, which config.json asks for{hint}"
            )
        if stored[name].shape != shape:
            raise UserError(
                f"{stored[name].path}: {name} has shape {list(stored[name].shape)}, config.json asks for {list(shape)}"
            )
    surplus = sorted(name for name in stored if name not in expected and not name.endswith(_DERIVED))
    if config.tied and "lm_head.weight" in surplus:
        # Some exports write the head of a tied model too: harmless as long as it is the embedding.
        if not _equal(stored["lm_head.weight"], stored["model.embed_tokens.weight"]):
            raise UserError(
                f"{directory}: tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight; "
                "set it to false to use both"
            )
        surplus.remove("lm_head.weight")
    if surplus:
        raise UserError(
            f"{directory}: {len(surplus)} weights have no place in a {config.family} model of this config: "
            f"{', '.join(surplus[:3])}{' …' if len(surplus) > 3 else ''}"
        )


def _equal(a: StoredTensor, b: StoredTensor) -> bool:
    # As bytes: NaN is equal to itself, and bfloat16 is compared as fast as the rest.
    return (a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(_bytes(a), _bytes(b))


def _bytes(tensor: StoredTensor) -> np.ndarray:
    return tensor.open().reshape(-1).view(np.uint8)
