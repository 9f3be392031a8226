"""The shape of a decoder, read from a Hugging Face `config.json` and nothing else."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.errors import UserError

ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
}


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position parameters.

    Attributes:
      theta: base of the frequencies.
      kind: "default", "linear" (positions divided by `factor`) or "llama3" (long wavelengths divided by it).
      factor: the division.
      low_freq_factor: llama3 only: wavelengths above original_max_positions / low_freq_factor are divided.
      high_freq_factor: llama3 only: wavelengths below original_max_positions / high_freq_factor are kept.
      original_max_positions: llama3 only: the context length before scaling.
    """

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything the forward pass needs to know; hashable, so that it can be static under `jax.jit`.

    Attributes:
      family: "qwen2", "qwen3", "llama" or "mistral".
      vocab_size: rows of the embedding.
      width: D, the residual stream.
      ffn: F, the inner width of the gated feed-forward layer.
      num_layers: L.
      num_heads: N, query heads.
      num_kv_heads: K, key-value heads; divides `num_heads`.
      head_dim: H; its own number, not width / num_heads.
      rope: rotary parameters.
      norm_eps: epsilon of the RMS norms.
      tied: the output head is the transposed embedding.
      qkv_bias: biases on query, key and value projections.
      output_bias: a bias on the attention's output projection.
      mlp_bias: biases on the feed-forward projections.
      qk_norm: RMS norm over head_dim of every query and key head, before rope.
      max_positions: longest context the model was made for.
    """

    family: str
    vocab_size: int
    width: int
    ffn: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope: RopeConfig = RopeConfig()
    norm_eps: float = 1e-6
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    max_positions: int = 4096

    @classmethod
    def from_hf(cls, fields: Mapping[str, Any], where: str = "config.json") -> "ModelConfig":
        """Reads the fields of a `config.json`.

        Args:
          fields: the parsed JSON object.
          where: its path, for error messages.

        Raises:
          UserError: unknown architecture, activation or rope type, sliding-window layers, or a missing field.
        """
        family = fields.get("model_type")
        if family not in ARCHITECTURES:
            raise UserError(f"{where}: model_type is {family!r}; supported are {', '.join(sorted(ARCHITECTURES))}")
        required = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        missing = [name for name in required if not isinstance(fields.get(name), int)]
        if missing:
            raise UserError(f"{where}: these integer fields are missing: {', '.join(missing)}")
        if fields.get("hidden_act", "silu") != "silu":
            raise UserError(f"{where}: hidden_act is {fields['hidden_act']!r}; supported is 'silu'")
        if fields.get("use_sliding_window") or "sliding_attention" in (fields.get("layer_types") or ()):
            raise UserError(f"{where}: sliding-window attention is not supported; all layers must attend in full")
        max_positions = int(fields.get("max_position_embeddings", 4096))
        # Only Mistral's layers all slide wherever a window is given; transformers' MistralConfig gives one itself.
        window = fields.get("sliding_window", 4096) if family == "mistral" else None
        if window is not None and window < max_positions:
            raise UserError(
                f"{where}: sliding_window is {window}, less than max_position_embeddings {max_positions}; "
                "sliding-window attention is not supported, so it must be null or no less"
            )
        if fields.get("quantization_config"):
            raise UserError(f"{where}: has a quantization_config; only unquantised weights are supported")
        width, num_heads = fields["hidden_size"], fields["num_attention_heads"]
        # transformers' Qwen3Config says 128 where config.json is silent; the other families divide.
        head_dim = fields.get("head_dim") or (128 if family == "qwen3" else width // num_heads)
        num_kv_heads = fields.get("num_key_value_heads") or num_heads
        if num_heads % num_kv_heads or head_dim % 2:
            raise UserError(
                f"{where}: num_attention_heads {num_heads} must be a multiple of num_key_value_heads {num_kv_heads}, "
                f"and head_dim {head_dim} must be even"
            )
        attention_bias = bool(fields.get("attention_bias", False)) if family in ("llama", "qwen3") else False
        return cls(
            family=family,
            vocab_size=fields["vocab_size"],
            width=width,
            ffn=fields["intermediate_size"],
            num_layers=fields["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            rope=_rope(fields, where),
            norm_eps=float(fields.get("rms_norm_eps", 1e-6)),
            tied=bool(fields.get("tie_word_embeddings", False)),
            qkv_bias=True if family == "qwen2" else attention_bias,
            output_bias=attention_bias,
            mlp_bias=bool(fields.get("mlp_bias", False)) if family == "llama" else False,
            qk_norm=family == "qwen3",
            max_positions=max_positions,
        )

    def to_hf(self) -> dict[str, Any]:
        """The fields of a `config.json` that describe this shape, with rope in the spelling all versions read."""
        fields: dict[str, Any] = {
            "architectures": [ARCHITECTURES[self.family]],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope.theta,
            "rope_scaling": _rope_scaling(self.rope),
        }
        if self.family in ("llama", "qwen3"):
            fields["attention_bias"] = self.qkv_bias
        if self.family == "llama":
            fields["mlp_bias"] = self.mlp_bias
        if self.family == "mistral":
            fields["sliding_window"] = None
        return fields


def _rope(fields: Mapping[str, Any], where: str) -> RopeConfig:
    """Reads both spellings: `rope_theta` + `rope_scaling`, and `rope_parameters` (transformers 5)."""
    old, new = dict(fields.get("rope_scaling") or {}), dict(fields.get("rope_parameters") or {})
    if fields.get("rope_theta") is not None:
        old["rope_theta"] = fields["rope_theta"]
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            raise UserError(f"{where}: {name} is {old[name]} and in rope_parameters {new[name]}; keep the right one")
    parameters = old | new
    if parameters.get("partial_rotary_factor", fields.get("partial_rotary_factor") or 1.0) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor is not 1; heads that rotate in part are not supported")
    theta = float(parameters.get("rope_theta", 10_000.0))
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    needs = {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    }
    if kind not in needs:
        raise UserError(f"{where}: rope_type is {kind!r}; supported are {', '.join(needs)}")
    missing = [name for name in needs[kind] if name not in parameters]
    if missing:
        raise UserError(f"{where}: rope_type {kind!r} needs the fields {', '.join(missing)}")
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind == "linear":
        return RopeConfig(theta=theta, kind=kind, factor=float(parameters["factor"]))
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=float(parameters["factor"]),
        low_freq_factor=float(parameters["low_freq_factor"]),
        high_freq_factor=float(parameters["high_freq_factor"]),
        original_max_positions=int(parameters["original_max_position_embeddings"]),
    )


def _rope_scaling(rope: RopeConfig) -> dict[str, Any] | None:
    if rope.kind == "default":
        return None
    scaling: dict[str, Any] = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "llama3":
        scaling["low_freq_factor"] = rope.low_freq_factor
        scaling["high_freq_factor"] = rope.high_freq_factor
        scaling["original_max_position_embeddings"] = rope.original_max_positions
    return scaling
