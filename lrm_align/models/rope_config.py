"""Rotary position parameters, read from a Hugging Face `config.json` in both spellings of transformers."""

import dataclasses
import math
from typing import Any

from lrm_align.errors import UserError
from lrm_align.untrusted import Fields, named, shown

_INT32 = 2**31 - 1
_SMALLEST, _LARGEST = 1e-6, 1e12  # of rope's numbers
# attn_factor is vLLM's word, which transformers does not read: see RopeConfig.
_NAMES_OF_ROPE = {"rope_theta", "rope_type", "type", "partial_rotary_factor", "finetuned", "attn_factor"}
_CONTEXT = "original_max_position_embeddings"
# {kind: (fields it needs, fields it may have)}
_ROPE_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), (_CONTEXT,)),
    "dynamic": (("factor",), (_CONTEXT,)),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", _CONTEXT), ()),
    "yarn": (
        ("factor",),
        (_CONTEXT, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
}


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position parameters.

    Attributes:
      theta: base of the frequencies.
      kind: "default", "linear" (positions divided by `factor`), "dynamic" (a base that grows with the sequence),
        "llama3" (long wavelengths divided) or "yarn" (the same by a ramp, and sharper attention).
      factor: the division.
      low_freq_factor: llama3 only: wavelengths above original_max_positions / low_freq_factor are divided.
      high_freq_factor: llama3 only: wavelengths below original_max_positions / high_freq_factor are kept.
      original_max_positions: llama3, yarn, dynamic: the context length before scaling.
      beta_fast: yarn only: what turns more often than this in the original context is kept.
      beta_slow: yarn only: what turns less often is divided.
      truncate: yarn only: whether the ramp begins and ends at whole dimensions.
      attention_factor: yarn only: what queries and keys are multiplied by. As in transformers, `attn_factor` beside it
        (DeepSeek-R1-0528-Qwen3-8B has one) changes nothing; vLLM multiplies by it.
    """

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


def read_rope(found: Fields, max_positions: int, where: str) -> RopeConfig:
    """Reads both spellings: `rope_theta` + `rope_scaling`, and `rope_parameters` (transformers 5)."""
    old, new = found.mapping("rope_scaling"), found.mapping("rope_parameters")
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in found:
            old[name] = found.number(name, _SMALLEST, _LARGEST)
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            raise UserError(
                f"{where}: {name} is {shown(old[name])} and in rope_parameters {shown(new[name])}; keep the right one"
            )
    values = {name: value for name, value in (old | new).items() if value is not None}
    rope = Fields(values, f"{where}, rope")
    kind = rope.text("rope_type", rope.text("type", "default"))
    if kind not in _ROPE_FIELDS:
        raise UserError(f"{where}: rope_type is {shown(kind)}; supported are {', '.join(_ROPE_FIELDS)}")
    needed, allowed = _ROPE_FIELDS[kind]
    missing = [name for name in needed if name not in values]
    if missing:
        raise UserError(f"{where}: rope_type {kind!r} needs the fields {', '.join(missing)}")
    if rope.number("partial_rotary_factor", 0, 1, 1.0) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor is not 1; heads that rotate in part are not supported")
    # What another kind reads may be left over from it; what no kind reads would be lost.
    known = {name for fields in _ROPE_FIELDS["llama3"] for name in fields} | {*needed, *allowed} | _NAMES_OF_ROPE
    unknown = sorted(values.keys() - known)
    if unknown:
        raise UserError(
            f"{where}: rope's {named(unknown[0])} is {shown(values[unknown[0]])}; this parameter is not supported"
        )
    theta = rope.number("rope_theta", _SMALLEST, _LARGEST, 10_000.0)
    if kind == "default":
        return RopeConfig(theta=theta)
    factor = rope.number("factor", _SMALLEST, _LARGEST)
    if kind == "linear":
        return RopeConfig(theta=theta, kind=kind, factor=factor)
    context = rope.integer(_CONTEXT, 1, _INT32, max_positions)
    if kind == "dynamic":
        if context != max_positions:
            raise UserError(
                f"{where}: rope's {_CONTEXT} is {context} and max_position_embeddings {max_positions}; with rope_type "
                "'dynamic' readers go by the second alone, so that both must be the same"
            )
        if factor < 1:
            raise UserError(f"{where}: rope's factor is {factor:g}; with rope_type 'dynamic' it is at least 1")
        return RopeConfig(theta=theta, kind=kind, factor=factor, original_max_positions=context)
    if kind == "yarn":
        return _yarn(rope, theta, factor, context, where)
    low, high = (rope.number(name, _SMALLEST, _LARGEST) for name in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise UserError(f"{where}: low_freq_factor {low:g} must be less than high_freq_factor {high:g}")
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_positions=context,
    )


def _yarn(rope: Fields, theta: float, factor: float, context: int, where: str) -> RopeConfig:
    """YaRN's numbers, those that are not there as transformers fills them in."""
    fast, slow = (
        rope.number(name, _SMALLEST, _LARGEST, value) for name, value in (("beta_fast", 32), ("beta_slow", 1))
    )
    if fast < slow:
        raise UserError(f"{where}: beta_fast {fast:g} must not be less than beta_slow {slow:g}")
    if theta <= 1:
        raise UserError(f"{where}: rope_theta is {theta:g}; with rope_type 'yarn' it must be greater than 1")
    mscale, over = (rope.number(name, 0, _LARGEST, 0.0) for name in ("mscale", "mscale_all_dim"))
    default = (
        yarn_attention(factor, mscale) / yarn_attention(factor, over) if mscale and over else yarn_attention(factor)
    )
    return RopeConfig(
        theta=theta,
        kind="yarn",
        factor=factor,
        original_max_positions=context,
        beta_fast=fast,
        beta_slow=slow,
        truncate=rope.boolean("truncate", True),
        attention_factor=rope.number("attention_factor", _SMALLEST, _LARGEST, default),
    )


def yarn_attention(factor: float, mscale: float = 1.0) -> float:
    """What YaRN multiplies queries and keys by: 0.1·mscale·ln(factor) + 1 (Peng et al. 2023, arXiv:2309.00071, 3.4).

    >>> round(yarn_attention(4.0), 4), yarn_attention(0.5)
    (1.1386, 1.0)
    """
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def stretched(rope: RopeConfig, max_positions: int) -> int:
    """The positions of a model whose rope is scaled: `config.json` may count those before scaling alone."""
    if rope.kind not in ("yarn", "dynamic"):
        return max_positions
    return max(max_positions, min(_INT32, round(rope.factor * rope.original_max_positions)))


def unstretched(rope: RopeConfig, max_positions: int) -> int:
    """What `config.json` says for max_position_embeddings: with "dynamic", the positions before scaling."""
    return rope.original_max_positions if rope.kind == "dynamic" else max_positions


def rope_scaling(rope: RopeConfig) -> dict[str, Any] | None:
    """The object `rope_scaling` of `config.json`; None where nothing is scaled."""
    if rope.kind == "default":
        return None
    scaling: dict[str, Any] = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "llama3":
        scaling["low_freq_factor"] = rope.low_freq_factor
        scaling["high_freq_factor"] = rope.high_freq_factor
        scaling[_CONTEXT] = rope.original_max_positions
    elif rope.kind == "yarn":
        scaling[_CONTEXT] = rope.original_max_positions
        scaling |= {name: getattr(rope, name) for name in ("beta_fast", "beta_slow", "truncate", "attention_factor")}
    return scaling
