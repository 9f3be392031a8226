"""The shape of a decoder, read from a Hugging Face `config.json` and nothing else."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.errors import UserError
from lrm_align.models.rope_config import RopeConfig, read_rope, rope_scaling, stretched, unstretched
from lrm_align.untrusted import Fields, shown

ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
}

# The integers without which there is no model, and the most that is believed of each: ten times what is published.
_SIZES = {
    "vocab_size": 2**22,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_hidden_layers": 2000,
    "num_attention_heads": 4096,
}
_INT32 = 2**31 - 1


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
    rope: RopeConfig = dataclasses.field(default_factory=RopeConfig)
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
          UserError: unknown architecture, activation or rope type, sliding-window layers, or a field that is missing,
            of another type or out of range.
        """
        found = Fields(fields, where)
        family = found.text("model_type", "")
        if family not in ARCHITECTURES:
            given = shown(fields.get("model_type"))
            raise UserError(f"{where}: model_type is {given}; supported are {', '.join(sorted(ARCHITECTURES))}")
        missing = [name for name in _SIZES if fields.get(name) is None]
        if missing:
            raise UserError(f"{where}: these integer fields are missing: {', '.join(missing)}")
        vocab_size, width, ffn, num_layers, num_heads = (
            found.integer(name, 1, largest) for name, largest in _SIZES.items()
        )
        if found.text("hidden_act", "silu") != "silu":
            raise UserError(f"{where}: hidden_act is {shown(fields['hidden_act'])}; supported is 'silu'")
        max_positions = found.integer("max_position_embeddings", 1, _INT32, 4096)
        _check_full_attention(fields, found, family, max_positions, where)
        if fields.get("quantization_config"):
            raise UserError(f"{where}: has a quantization_config; only unquantised weights are supported")
        # transformers' Qwen3Config says 128 where config.json is silent; the other families divide.
        if "head_dim" not in found and family != "qwen3" and width % num_heads:
            raise UserError(
                f"{where}: hidden_size {width} is no multiple of num_attention_heads {num_heads}, and no head_dim"
            )
        head_dim = found.integer("head_dim", 1, 2**16, 128 if family == "qwen3" else max(1, width // num_heads))
        num_kv_heads = found.integer("num_key_value_heads", 1, num_heads, num_heads)
        if num_heads % num_kv_heads or head_dim % 2:
            raise UserError(
                f"{where}: num_attention_heads {num_heads} must be a multiple of num_key_value_heads {num_kv_heads}, "
                f"and head_dim {head_dim} must be even"
            )
        attention_bias = found.boolean("attention_bias", False) if family in ("llama", "qwen3") else False
        rope = read_rope(found, max_positions, where)
        return cls(
            family=family,
            vocab_size=vocab_size,
            width=width,
            ffn=ffn,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            rope=rope,
            norm_eps=found.number("rms_norm_eps", 0, 1, 1e-6),
            tied=found.boolean("tie_word_embeddings", False),
            qkv_bias=True if family == "qwen2" else attention_bias,
            output_bias=attention_bias,
            mlp_bias=found.boolean("mlp_bias", False) if family == "llama" else False,
            qk_norm=family == "qwen3",
            max_positions=stretched(rope, max_positions),
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
            "max_position_embeddings": unstretched(self.rope, self.max_positions),
            "rope_theta": self.rope.theta,
            "rope_scaling": rope_scaling(self.rope),
        }
        if self.family in ("llama", "qwen3"):
            fields["attention_bias"] = self.qkv_bias
        if self.family == "llama":
            fields["mlp_bias"] = self.mlp_bias
        if self.family == "mistral":
            fields["sliding_window"] = None
        return fields


def _check_full_attention(
    fields: Mapping[str, Any], found: Fields, family: str, max_positions: int, where: str
) -> None:
    """Refuses layers that see a window only.

    Raises:
      UserError: naming the field.
    """
    layer_types = fields.get("layer_types") or []
    if not isinstance(layer_types, list | tuple) or not all(isinstance(kind, str) for kind in layer_types):
        raise UserError(f"{where}: layer_types is {shown(layer_types)}; expected a list of names")
    if found.boolean("use_sliding_window", False) or set(layer_types) - {"full_attention"}:
        raise UserError(f"{where}: sliding-window attention is not supported; all layers must attend in full")
    # Only Mistral's layers all slide wherever a window is given; transformers' MistralConfig gives one itself.
    if family == "mistral" and fields.get("sliding_window", 4096) is not None:
        window = found.integer("sliding_window", 1, _INT32, 4096)
        if window < max_positions:
            raise UserError(
                f"{where}: sliding_window is {window}, less than max_position_embeddings {max_positions}; "
                "sliding-window attention is not supported, so it must be null or no less"
            )
