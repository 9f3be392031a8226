"""Adapters in the format of the `peft` library: adapter_config.json and adapter_model.safetensors."""

import dataclasses
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as dump_safetensors

from lrm_align.errors import UserError
from lrm_align.models import hf_files
from lrm_align.models.config import ModelConfig
from lrm_align.models.hf_map import MODULES
from lrm_align.models.lora import Adapters
from lrm_align.models.projection import INPUTS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model.model.layers"
# Variants of peft that change what the numbers mean.
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What the weights alone do not tell.

    Attributes:
      rank: R.
      alpha: the correction is scaled by alpha / rank.
      dropout: rate that the adapters were trained with.
      base: the directory or hub id of the model that they belong to.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    base: str | None = None

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def save_adapters(directory: str | epath.PathLike, adapters: Adapters, config: AdapterConfig) -> epath.Path:
    """Writes adapters as `peft.PeftModel.from_pretrained` reads them."""
    target = epath.Path(directory)
    tensors: dict[str, np.ndarray] = {}
    for name, adapter in adapters.items():
        a_LxIxR, b_LxRxO = _flat(name, jax.device_get(adapter))
        if a_LxIxR.shape[-1] != config.rank:
            raise ValueError(f"adapter {name} has rank {a_LxIxR.shape[-1]}, not {config.rank}")
        for layer, (a, b) in enumerate(zip(a_LxIxR, b_LxRxO)):
            stem = f"{_PREFIX}.{layer}.{MODULES[name]}"
            tensors[f"{stem}.lora_A.weight"] = np.ascontiguousarray(a.T)
            tensors[f"{stem}.lora_B.weight"] = np.ascontiguousarray(b.T)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted(MODULES[name].split(".")[-1] for name in adapters),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / WEIGHTS).write_bytes(dump_safetensors(tensors, metadata={"format": "pt"}))
    (target / CONFIG).write_text(json.dumps(fields, indent=2) + "\n")
    return target


def load_adapters(directory: str | epath.PathLike, model: ModelConfig) -> tuple[Adapters, AdapterConfig]:
    """Reads adapters for a model of this shape.

    Raises:
      UserError: no adapters there, a variant of LoRA that is not supported, or weights of another model.
    """
    source = epath.Path(directory)
    fields = hf_files.read_json(source / CONFIG)
    used = [name for name in _UNSUPPORTED if fields.get(name)]
    if fields.get("peft_type") != "LORA" or fields.get("bias", "none") != "none" or used:
        found = used or [f"peft_type {fields.get('peft_type')!r}, bias {fields.get('bias')!r}"]
        raise UserError(f"{source / CONFIG}: only plain LoRA is supported; found {', '.join(found)}")
    config = AdapterConfig(
        int(fields["r"]),
        float(fields["lora_alpha"]),
        float(fields.get("lora_dropout", 0.0)),
        fields.get("base_model_name_or_path"),
    )
    if not (source / WEIGHTS).is_file():
        raise UserError(f"{source}: holds no {WEIGHTS}")
    try:
        tensors = load_safetensors((source / WEIGHTS).read_bytes())
    except SafetensorError as error:
        raise UserError(f"{source / WEIGHTS}: damaged: {error}") from None
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
    name: str, shape: tuple[int, ...], tensors: dict[str, np.ndarray], rank: int, layers: int, source: epath.Path
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
            stacks[part].append(tensor.T)
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
