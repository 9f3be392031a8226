"""Loads a Hugging Face directory straight into (sharded) device arrays."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding

from lrm_align.errors import UserError
from lrm_align.models import hf_files, hf_map, partition, safetensors_io
from lrm_align.models.config import ModelConfig
from lrm_align.models.decoder import Model, Params
from lrm_align.models.hf_write import save
from lrm_align.models.safetensors_io import StoredTensor

__all__ = ["check", "load", "save"]

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

    Raises:
      UserError: no such model, an architecture that is not supported, weights that don't match the config, damaged
        files, or dimensions that the mesh does not divide.
    """
    directory = hf_files.resolve(path_or_hub_id)
    config, shapes, stored = _agreeing(directory)
    model = Model(config, dtype=compute_dtype, **options)
    shardings = None if mesh is None else partition.shardings(shapes, mesh, model.rules)

    def read(path, leaf, sharding=None):
        weight = hf_map.weight_of(config, path)
        layers = [stored[weight.name.format(i)] for i in range(leaf.shape[0])] if weight.stacked else None
        kind = np.dtype(dtype) if dtype else jnp.result_type(*{t.dtype for t in layers or [stored[weight.name]]})
        return _device_array(weight, layers or stored[weight.name], leaf.shape, kind, sharding)

    if shardings is None:
        return model, jax.tree_util.tree_map_with_path(read, shapes)
    return model, jax.tree_util.tree_map_with_path(read, shapes, shardings)


def check(path_or_hub_id: str | epath.PathLike) -> ModelConfig:
    """Compares config and weights by the files' headers, without reading a weight.

    Raises:
      UserError: as `load`, but for the mesh.
    """
    return _agreeing(hf_files.resolve(path_or_hub_id))[0]


def _agreeing(directory: epath.Path) -> tuple[ModelConfig, Any, dict[str, StoredTensor]]:
    config = ModelConfig.from_hf(hf_files.read_json(directory / "config.json"), str(directory / "config.json"))
    shapes = jax.eval_shape(Model(config).init, jax.random.key(0))
    stored = safetensors_io.index(hf_files.weight_files(directory))
    _check(config, shapes, stored, directory)
    return config, shapes, stored


def _device_array(
    weight: hf_map.Weight,
    stored: StoredTensor | list[StoredTensor],
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: NamedSharding | None,
) -> jax.Array:
    def part(index: Any) -> Any:
        size = tuple(len(range(*s.indices(n))) for s, n in zip(index, shape))
        out = _aligned_empty(size, dtype)
        if isinstance(stored, StoredTensor):
            _copy(out, weight.view(stored.open(), shape)[index], weight.inputs)
            return out
        for row, layer in enumerate(range(*index[0].indices(shape[0]))):
            _copy(out[row], weight.view(stored[layer].open(), shape[1:])[index[1:]], weight.inputs)
        return out

    if sharding is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part, dtype=dtype)


def _copy(out: np.ndarray, view: np.ndarray, inputs: int | None) -> None:
    """out[...] = view, for a transposed view about 64 of the file's rows at a time: five times as fast as at once."""
    if inputs is None:
        out[...] = view
        return
    step = max(1, 64 // max(1, math.prod(out.shape[inputs + 1 :])))
    for start in range(0, out.shape[inputs], step):
        block = (slice(None),) * inputs + (slice(start, start + step),)
        out[block] = view[block]


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
    return a.shape == b.shape and np.array_equal(a.open(), b.open())
