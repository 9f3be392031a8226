"""`adapter_config.json` of the `peft` library: which adapters are the plain LoRA that is computed here.

Of peft's dozens of fields, a few say how training went, a few may hold one of several values, and all others, those of
coming versions too, must be off: null, false or empty. So a variant that nobody here has heard of is refused by its
field's name instead of being computed as what it is not.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from lrm_align import untrusted
from lrm_align.errors import UserError
from lrm_align.untrusted import Fields, named, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Read below, or without a say in what the finished weights compute.
_FREE = {"r", "lora_alpha", "lora_dropout", "use_rslora", "base_model_name_or_path", "revision", "peft_version"}
_FREE |= {"auto_mapping", "inference_mode", "target_modules", "exclude_modules", "layers_pattern"}
_FREE |= {"megatron_core", "qalora_group_size", "ensure_weight_tying"}
_ONE_OF: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    # These fill A and B; others (pissa, olora, loftq, corda, …) take what they put there out of the base's weights.
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What the weights alone do not tell.

    Attributes:
      rank: R.
      alpha: the correction is scaled by alpha / rank.
      dropout: rate that the adapters were trained with.
      base: the directory or hub id of the model that they belong to.
      rank_stabilized: the correction is scaled by alpha / √rank instead (Kalajdzievski 2023, arXiv 2312.03732).
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    base: str | None = None
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


def read(directory: epath.PathLike) -> AdapterConfig:
    """The config of a directory of adapters.

    Raises:
      UserError: no such file, a damaged one, or a field with a value that is not plain LoRA's.
    """
    path = epath.Path(directory) / CONFIG
    return parse(untrusted.read_object(path), str(path))


def parse(fields: Mapping[str, Any], where: str = CONFIG) -> AdapterConfig:
    """Reads the fields of an `adapter_config.json`.

    Raises:
      UserError: a field with a value that is not plain LoRA's, of another type, or missing.

    >>> parse({"peft_type": "LORA", "r": 8, "lora_alpha": 16}).scale
    2.0
    >>> parse({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_dora": True})
    Traceback (most recent call last):
      ...
    lrm_align.errors.UserError: adapter_config.json: use_dora is True; only plain LoRA is computed here, with it off
    """
    for name, right in _ONE_OF.items():
        value = fields.get(name, None if name == "peft_type" else right[0])
        if not any(type(value) is type(one) and value == one for one in right):
            wanted = ", ".join(repr(one) for one in right)
            raise UserError(f"{where}: {name} is {shown(value)}; only plain LoRA is computed here, with {wanted}")
    for name in sorted(fields.keys() - _FREE - _ONE_OF.keys()):
        if not any(fields[name] is off for off in (None, False)) and fields[name] not in ({}, [], ""):
            raise UserError(
                f"{where}: {named(name)} is {shown(fields[name])}; only plain LoRA is computed here, with it off"
            )
    found = Fields(fields, where)
    return AdapterConfig(
        rank=found.integer("r", 1, 2**16),
        alpha=found.number("lora_alpha", -1e6, 1e6),
        dropout=found.number("lora_dropout", 0, 1, 0.0),
        base=found.text("base_model_name_or_path", "") or None,
        rank_stabilized=found.boolean("use_rslora", False),
    )


def written(config: AdapterConfig, targets: list[str]) -> dict[str, Any]:
    """The fields of an `adapter_config.json`; `targets` are the last parts of the adapted modules' names."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
