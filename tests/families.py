"""Tiny models of every family, with nothing at its default: a new family joins the tests of models by a line here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.models import Model, ModelConfig, sequence_scores

_SMALL = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 5.0,
    "low_freq_factor": 1.5,
    "high_freq_factor": 6.0,
    "original_max_position_embeddings": 24,
}
# The fields of config.json, rope in the spelling of transformers 4.
FAMILIES = {
    "qwen2": {
        "model_type": "qwen2",
        "rope_theta": 700.0,
        "head_dim": 6,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-3,
    },
    "qwen3": {"model_type": "qwen3", "rope_theta": 90.0, "head_dim": 10, "tie_word_embeddings": False},
    "qwen3_bias": {
        "model_type": "qwen3",
        "rope_theta": 5e6,
        "rope_scaling": {"type": "linear", "factor": 2.5},
        "head_dim": 6,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
    # As DeepSeek-R1-0528-Qwen3-8B has it, attn_factor included; every kind of dimension, kept, mixed and divided.
    "qwen3_yarn": {
        "model_type": "qwen3",
        "rope_theta": 300.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 20,
            "attn_factor": 0.8782488562869419,
            "beta_fast": 2.0,
            "beta_slow": 0.1,
        },
        "head_dim": 10,
        "tie_word_embeddings": False,
    },
    "llama": {
        "model_type": "llama",
        "rope_theta": 300.0,
        "rope_scaling": _LLAMA3,
        "head_dim": 8,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
    },
    "llama_bias": {
        "model_type": "llama",
        "rope_theta": 40.0,
        "rope_scaling": {"rope_type": "linear", "factor": 3.0},
        "head_dim": 6,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "mistral": {
        "model_type": "mistral",
        "rope_theta": 2e3,
        "head_dim": 6,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-4,
        "sliding_window": None,
    },
}
FAMILIES = {name: _SMALL | fields for name, fields in FAMILIES.items()}
# Mistral computes as Llama does: by default the goldens are enough.
COMPUTED = [pytest.param(name, marks=[pytest.mark.slow] * (name == "mistral")) for name in FAMILIES]


def respelled(fields: dict) -> dict:
    """The same config in the spelling of transformers 5: one object `rope_parameters`."""
    rope = dict(fields.get("rope_scaling") or {"rope_type": "default"})
    rope.setdefault("rope_type", rope.pop("type", None))
    rope["rope_theta"] = fields["rope_theta"]
    kept = {k: v for k, v in fields.items() if k not in ("rope_theta", "rope_scaling")}
    return kept | {"rope_parameters": rope}


def random_weight(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Norms away from one, biases away from zero, kernels large enough that every part of the model matters."""
    noise = rng.standard_normal(shape)
    if "norm" in name:
        weight = 1 + 0.3 * noise
    elif "bias" in name:
        weight = 0.3 * noise
    elif "embed" in name:
        weight = 0.7 * noise
    else:
        weight = noise * 1.3 / np.sqrt(shape[-1])
    return weight.astype(np.float32)


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights by their Hugging Face names, a function of names, shapes and seed."""
    rng = np.random.default_rng(seed)
    return {name: random_weight(rng, name, tuple(shapes[name])) for name in sorted(shapes)}


def tiny(family: str, seed: int = 0, **options) -> tuple[Model, dict]:
    """A model of a family with random parameters."""
    model = Model(ModelConfig.from_hf(FAMILIES[family]), **options)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    fill = lambda path, leaf: jnp.asarray(random_weight(rng, path[-1].key, leaf.shape))  # noqa: E731
    return model, jax.tree_util.tree_map_with_path(fill, shapes)


def packed_rows(seed: int, rows: int, length: int, vocab: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random tokens, segment ids and positions of rows that hold traces of random lengths and end in padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab, (rows, length)).astype(np.int32)
    segments, positions = np.zeros((2, rows, length), np.int32)
    for row in range(rows):
        start, segment = 0, 1
        while start < length - 3:
            end = min(length - 2, start + int(rng.integers(2, 7)))
            segments[row, start:end], positions[row, start:end] = segment, np.arange(end - start)
            start, segment = end, segment + 1
    return tokens, segments, positions


@functools.partial(jax.jit, static_argnums=0)
def logits(model: Model, params: dict, *inputs: np.ndarray) -> jax.Array:
    """`model.logits`, compiled once for each model and shape in a test session."""
    return model.logits(params, *inputs)


@functools.partial(jax.jit, static_argnums=0)
def nll_and_gradients(model: Model, params: dict, tokens_BxT: np.ndarray) -> tuple[jax.Array, dict]:
    """The mean negative log-likelihood of tokens 1… of unpacked rows, in chunks, and its gradient."""

    def mean_nll(params):
        hidden, segment_ids_BxT = model.hidden(params, tokens_BxT), jnp.ones_like(tokens_BxT)
        scores = sequence_scores(hidden, model.head(params), tokens_BxT, segment_ids_BxT, chunk=16)
        return -jnp.mean(scores["logp"][:, 1:])

    return jax.value_and_grad(mean_nll)(params)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _decode(model: Model, params: dict, tokens_T: jax.Array, length: jax.Array, steps: int) -> jax.Array:
    hidden, k, v = model.prefill(params, tokens_T[None], length[None])
    empty = model.init_cache(1, len(tokens_T))
    cache = type(empty)(empty.k_LxBxCxKxH.at[:].set(k), empty.v_LxBxCxKxH.at[:].set(v))
    head = model.head(params)

    def step(carry, position):
        cache, hidden_D = carry
        token = jnp.argmax(hidden_D @ head)
        hidden, cache = model.decode(params, cache, token[None], position[None])
        return (cache, hidden[0]), token

    return jax.lax.scan(step, (cache, hidden[0, length - 1]), length + jnp.arange(steps))[1]


def greedy(model: Model, params: dict, prompt: np.ndarray, steps: int) -> np.ndarray:
    """The prompt (one row of ids) and its greedy continuation by prefill and cached decoding."""
    padded = np.pad(prompt, (0, steps)).astype(np.int32)
    return np.concatenate([prompt, _decode(model, params, padded, jnp.asarray(len(prompt)), steps)])
