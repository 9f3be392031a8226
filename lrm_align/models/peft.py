"""Adapters in the format of the `peft` library: adapter_config.json and adapter_model.safetensors."""

import json
import math
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors.numpy import save as dump_safetensors

from lrm_align import atomic_files, processes
from lrm_align.errors import UserError
from lrm_align.models import finite, partition, peft_config, safetensors_io
from lrm_align.models.config import ModelConfig
from lrm_align.models.hf_map import MODULES
from lrm_align.models.lora import Adapters
from lrm_align.models.peft_config import CONFIG, WEIGHTS, AdapterConfig
from lrm_align.models.projection import INPUTS
from lrm_align.models.safetensors_io import StoredTensor

__all__ = ["AdapterConfig", "load_adapters", "save_adapters"]

_PREFIX = "base_model.model.model.layers"


def save_adapters(directory: str | epath.PathLike, adapters: Adapters, config: AdapterConfig) -> epath.Path:
    """Writes adapters as `peft.PeftModel.from_pretrained` reads them; on several hosts every process calls it."""
    target = epath.Path(directory)
    tensors: dict[str, np.ndarray] = {}
    for name, adapter in adapters.items():
        a_LxIxR, b_LxRxO = _flat(name, jax.tree.map(partition.on_host, adapter))
        if a_LxIxR.shape[-1] != config.rank:
            raise ValueError(f"adapter {name} has rank {a_LxIxR.shape[-1]}, not {config.rank}")
        for layer, (a, b) in enumerate(zip(a_LxIxR, b_LxRxO)):
            stem = f"{_PREFIX}.{layer}.{MODULES[name]}"
            tensors[f"{stem}.lora_A.weight"] = np.ascontiguousarray(a.T)
            tensors[f"{stem}.lora_B.weight"] = np.ascontiguousarray(b.T)
    targets = sorted(MODULES[name].split(".")[-1] for name in adapters)
    fields = peft_config.written(config, targets)
    target.mkdir(parents=True, exist_ok=True)
    atomic_files.write_bytes(target / WEIGHTS, dump_safetensors(tensors, metadata={"format": "pt"}))
    atomic_files.write_text(target / CONFIG, json.dumps(fields, indent=2) + "\n")
    processes.barrier("an export of adapters")
    return target


def load_adapters(directory: str | epath.PathLike, model: ModelConfig) -> tuple[Adapters, AdapterConfig]:
    """Reads adapters for a model of this shape.

    Raises:
      UserError: no adapters there, another adapter than plain LoRA, or weights of another model.

    Warns:
      RuntimeWarning: weights that are NaN or infinite, by name.
    """
    source = epath.Path(directory)
    config = peft_config.read(source)
    tensors = safetensors_io.index([source / WEIGHTS])
    adapters: Adapters = {}
    for name, shape in _kernel_shapes(model).items():
        adapters |= _read(name, shape, tensors, config.rank, model.num_layers, source)
    if not adapters or tensors:
        known = ", ".join(module.split(".")[-1] for module in MODULES.values())
        raise UserError(
            f"{source / WEIGHTS}: {'has tensors besides' if adapters else 'has no'} adapters of this model's kernels "
            f"({known}): {', '.join(sorted(tensors)[:3])}"
        )
    return adapters, config


def _read(
    name: str, shape: tuple[int, ...], tensors: dict[str, StoredTensor], rank: int, layers: int, source: epath.Path
) -> Adapters:
    """Takes one kernel's tensors out of the dict."""
    stem = re.escape(f".{MODULES[name]}.lora_")
    if not any(re.search(stem, key) for key in tensors):
        return {}
    inputs, outputs = shape[: INPUTS[name]], shape[INPUTS[name] :]
    wanted = {"A": (rank, math.prod(inputs)), "B": (math.prod(outputs), rank)}
    stacks: dict[str, list[np.ndarray]] = {"A": [], "B": []}
    for layer in range(layers):
        for part, expected in wanted.items():
            key = f"{_PREFIX}.{layer}.{MODULES[name]}.lora_{part}.weight"
            if key not in tensors:
                raise UserError(f"{source / WEIGHTS}: lacks {key}")
            tensor = tensors.pop(key)
            if tensor.shape != expected:
                raise UserError(f"{source / WEIGHTS}: {key} has shape {tensor.shape}, the model asks for {expected}")
            array = np.array(tensor.open())
            if not finite.is_finite(array):
                warnings.warn(f"{source / WEIGHTS}: {finite.complaint([key])}", RuntimeWarning, stacklevel=3)
            stacks[part].append(array.T)
    a, b = np.stack(stacks["A"]), np.stack(stacks["B"])
    return {
        name: {
            "a": jnp.asarray(a.reshape(layers, *inputs, rank)),
            "b": jnp.asarray(b.reshape(layers, rank, *outputs)),
        }
    }


def _kernel_shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    heads, kv_heads = (c.num_heads, c.head_dim), (c.num_kv_heads, c.head_dim)
    return {
        "q": (c.width, *heads),
        "k": (c.width, *kv_heads),
        "v": (c.width, *kv_heads),
        "o": (*heads, c.width),
        "gate": (c.width, c.ffn),
        "up": (c.width, c.ffn),
        "down": (c.ffn, c.width),
    }


def _flat(name: str, adapter: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """A and B with the axes of heads flattened: L × in × R and L × R × out."""
    a, b = np.asarray(adapter["a"]), np.asarray(adapter["b"])
    return a.reshape(a.shape[0], -1, a.shape[-1]), b.reshape(b.shape[0], b.shape[1], -1)
