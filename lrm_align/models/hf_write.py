"""Writes a Hugging Face directory, one tensor in host memory at a time."""

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lrm_align import atomic_files, processes, untrusted
from lrm_align.errors import UserError
from lrm_align.models import generation, hf_files, hf_map, partition, safetensors_io
from lrm_align.models.config import ModelConfig
from lrm_align.models.decoder import Model, Params
from lrm_align.models.projection import INPUTS, LoraKernel, merged
from lrm_align.models.safetensors_io import NewTensor

# Spellings of the same facts; none may survive beside another when the config is written anew.
_DTYPE_FIELDS = ("dtype", "torch_dtype")
_LARGEST_COMPANION = 256 << 20
_ROPE_FIELDS = ("rope_theta", "rope_scaling", "rope_parameters")


def save(
    directory: str | epath.PathLike,
    model: Model,
    params: Params,
    source: str | epath.PathLike | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = 4_500_000_000,
    end_of_turn_id: int | None = None,
    tokenizer: str | epath.PathLike | None = None,
) -> epath.Path:
    """Writes config, weights and, from `source`, everything else that the model needs to be used.

    Adapters (`LoraKernel` leaves) are merged into their kernels. On several hosts every process calls it and the first
    one writes. config.json comes last: a directory without it is an unfinished export, and is refused by `load`.

    Args:
      directory: where to; weights of an earlier export there are replaced.
      model: gives the config.
      params: parameters, on any devices.
      source: the directory or hub id that the model came from: its config's unknown fields, generation_config,
        tokenizer and chat template are taken over.
      dtype: of the written weights; that of the parameters where None.
      max_shard_bytes: of one file.
      end_of_turn_id: the token that ends the turns which were trained: it joins the ids that end an answer, in
        generation_config.json and where config.json states them, so that whoever generates stops there.
      tokenizer: a directory whose tokenizer and chat template take the place of the source's.

    Returns:
      The directory.

    Raises:
      UserError: `source` is the directory itself, or holds another architecture.
    """
    target = epath.Path(directory)
    origin = None if source is None else hf_files.resolve(source)
    if origin is not None and target.exists() and target.resolve() == origin.resolve():
        raise UserError(f"{target}: is the directory that the model came from; export it somewhere else")
    fields = {} if origin is None else untrusted.read_object(origin / hf_files.CONFIG)
    tensors = list(_tensors(model, params, dtype))
    config = _config(model.config, fields, tensors)
    companions = _companions(origin, None if tokenizer is None else epath.Path(tokenizer))
    if end_of_turn_id is not None:
        companions[generation.FILE] = _json(generation.exported(origin, fields, end_of_turn_id)).encode()
        if config.get("eos_token_id") is not None:
            config = generation.with_end(config, end_of_turn_id, "config.json")
    writes = processes.primary()
    if writes:
        target.mkdir(parents=True, exist_ok=True)
        atomic_files.remove_partials(target)
        stale = [p for p in target.iterdir() if p.name in ("config.json", hf_files.INDEX) or p.suffix == ".safetensors"]
        for path in stale:
            path.unlink()
    write_weights(target, tensors, max_shard_bytes, writes)
    if writes:
        for name, content in companions.items():
            atomic_files.write_bytes(target / name, content)
        atomic_files.write_text(target / "config.json", _json(config))
    processes.barrier("an export")
    return target


def _companions(origin: epath.Path | None, tokenizer: epath.Path | None) -> dict[str, bytes]:
    """The files beside the weights, by name."""
    places = dict.fromkeys(hf_files.COMPANIONS, origin)
    if tokenizer is not None:
        places |= dict.fromkeys(hf_files.TOKENIZER, tokenizer)
    return {
        name: untrusted.read_bytes(place / name, _LARGEST_COMPANION)
        for name, place in places.items()
        if place is not None and (place / name).is_file()
    }


def _tensors(model: Model, params: Params, dtype: str | None) -> Iterator[NewTensor]:
    """Every tensor in the order of the forward pass."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda x: isinstance(x, LoraKernel))
    found = {hf_map.weight_of(model.config, path).leaf: leaf for path, leaf in leaves}
    expected = {path[-1].key: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    actual = {name: (leaf.base if isinstance(leaf, LoraKernel) else leaf).shape for name, leaf in found.items()}
    if actual != expected:
        raise ValueError(f"parameters are not those of the config: {actual} instead of {expected}")
    table = hf_map.TABLES[model.config.family]
    stacked = [weight for weight in table.values() if weight.stacked and weight.leaf in found]

    def tensor(weight: hf_map.Weight, layer: int | None) -> NewTensor:
        leaf = found[weight.leaf]
        array = leaf.base if isinstance(leaf, LoraKernel) else leaf
        kind = np.dtype(dtype or array.dtype)
        shape = weight.shape(array.shape if layer is None else array.shape[1:])

        def read() -> np.ndarray:
            ours = leaf if layer is None else jax.tree.map(lambda a: a[layer], leaf)
            return np.asarray(weight.unview(partition.on_host(merged(ours, INPUTS.get(weight.leaf, 1)))), kind)

        return NewTensor(weight.name.format(layer), kind, shape, read)

    yield tensor(table["embed"], None)
    for layer in range(model.config.num_layers):
        for weight in stacked:
            yield tensor(weight, layer)
    yield tensor(table["final_norm"], None)
    if "head" in found:
        yield tensor(table["head"], None)


def write_weights(
    target: epath.Path, tensors: list[NewTensor], max_shard_bytes: int = 4_500_000_000, writes: bool = True
) -> None:
    """Writes tensors as one safetensors file, or as several with an index.

    Args:
      target: an existing directory.
      tensors: in order; one is in memory at a time.
      max_shard_bytes: of one file.
      writes: False on the hosts that only take part in gathering what is read.
    """
    shards: list[list[NewTensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(t.nbytes for t in shards[-1]) + tensor.nbytes > max_shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    count = len(shards)
    files = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)] if count > 1 else [hf_files.SINGLE]
    for name, shard in zip(files, shards):
        if writes:
            safetensors_io.write(target / name, shard)
        else:
            for tensor in shard:
                tensor.read()  # Takes part in gathering it.
    if writes and count > 1:
        weight_map = {tensor.name: name for name, shard in zip(files, shards) for tensor in shard}
        total = sum(tensor.nbytes for tensor in tensors)
        atomic_files.write_text(
            target / hf_files.INDEX, _json({"metadata": {"total_size": total}, "weight_map": weight_map})
        )


def _config(config: ModelConfig, source: dict[str, Any], tensors: list[NewTensor]) -> dict[str, Any]:
    fields = dict(source)
    if not source or ModelConfig.from_hf(source) != config:
        if source.get("model_type", config.family) != config.family:
            raise UserError(
                f"the source's config.json describes a {source['model_type']} model, this is {config.family}"
            )
        fields = {k: v for k, v in source.items() if k not in _ROPE_FIELDS} | config.to_hf()
    fields["tie_word_embeddings"] = config.tied
    # transformers 4 wrote "torch_dtype", 5 writes "dtype"; both read both, and a source may hold both.
    dtype = str(jnp.result_type(*{t.dtype for t in tensors}))
    fields |= {name: dtype for name in _DTYPE_FIELDS if name in source} or {"dtype": dtype}
    return fields


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
