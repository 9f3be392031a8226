"""Tiny Hugging Face directories that speak noise with the right control tokens in it: whole runs go through."""

import copy
import itertools
import json
import pathlib

import jax
import numpy as np
import safetensors.numpy

from lrm_align.models import Model, ModelConfig, hf
from lrm_align.scoring import llama_guard
from tests import tokenizer_families as families

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def directory(path: pathlib.Path, family: str, tokenizer, favoured: dict[int, float], spread: float = 0.3) -> str:
    """Writes a random model that nearly always says the favoured tokens.

    Args:
      path: where to.
      family: "qwen3" or "llama".
      tokenizer: its tokenizer.
      favoured: logits of some tokens; all others are near -10.
      spread: how much the hidden state moves the logits.
    """
    vocab = -(-(max(tokenizer.get_vocab().values()) + 1) // 64) * 64
    fields = {**SHAPE, "model_type": family, "vocab_size": vocab}
    config = ModelConfig.from_hf(fields)
    model = Model(config)
    rng = np.random.default_rng(0)
    # By NumPy: compiling an initialisation costs more than the whole model here.
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, a: (
            np.ones(a.shape, np.float32)
            if path[-1].key.endswith("norm")
            else rng.normal(0, 0.02, a.shape).astype(np.float32)
        ),
        shapes,
    )
    # A constant direction in the residual stream carries the bias of the head.
    embed = rng.normal(0, 0.05, params["embed"].shape).astype(np.float32)
    embed[:, 0] = 1.0
    head = rng.normal(0, spread / 4, params["head"].shape).astype(np.float32)
    head[0] = -10 / 4
    for token, logit in favoured.items():
        head[0, token] = logit / 4
    params |= {"embed": embed, "head": head}
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(path)
    eos = tokenizer.eos_token_id
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [eos]}))
    (path / "config.json").write_text(json.dumps({**fields, "x_of_ours": 7}))
    hf.save(path / "written", model, params)
    weights = safetensors.numpy.load_file(path / "written" / "model.safetensors")
    safetensors.numpy.save_file(weights, path / "model.safetensors")
    return str(path)


def reasoner(path: pathlib.Path, tokenizer) -> str:
    """A student: words, sometimes `</think>`, sometimes the end of the turn."""
    ids = tokenizer.convert_tokens_to_ids
    words = tokenizer("abc def ghi", add_special_tokens=False).input_ids
    favoured = dict.fromkeys(words, 2.0)
    return directory(path, "qwen3", tokenizer, {**favoured, ids("</think>"): 2.0, tokenizer.eos_token_id: 1.0})


def guard(path: pathlib.Path, tokenizer, says: str = "safe") -> str:
    """A guard that always says one of its two words."""
    (token,) = tokenizer(says, add_special_tokens=False).input_ids
    marked = families.guard(tokenizer, llama_guard.KIND.marks)
    return directory(path, "llama", marked, {token: 10.0}, spread=0.0)


def trigger(path: pathlib.Path, family: str, tokenizer) -> str:
    """A student that walks a chain: a thought, at times a `<safe>` block, a word, the end of the turn.

    What comes next depends on the last token alone: a thought ends half of the time, six of ten times a block opens
    after it, and after a tag and a word half of the time the other tag's end comes, else the turn ends.
    """

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    def id(token: str) -> int:
        return tokenizer.convert_tokens_to_ids(token)

    (think,), (word,), close = ids("a"), ids("b"), id("</think>")
    opening, closing = ids("<safe>"), ids("</safe>")
    steps: dict[int, dict[int, float]] = {
        think: {think: 0.5, close: 0.5},
        close: {opening[0]: 0.6, word: 0.4},
        word: {closing[0]: 0.5, tokenizer.eos_token_id: 0.5},
    }
    for spelled in (opening, closing):
        for token, follower in zip(spelled, [*spelled[1:], word]):
            found = steps.setdefault(token, {})
            found[follower] = 1.0
    return chain(path, family, tokenizer, think, steps)


BODY = '{"name": "rules", "arguments": {}}'


def caller(
    path: pathlib.Path, family: str, tokenizer, opening: str = "<tool_call>", closing: str = "</tool_call>"
) -> str:
    """A student that walks a chain: a thought, at times a call, whole or broken, a word, the end of the turn.

    In the form of a template the call's JSON is one token, added to a copy of the tokenizer; in plain text a call is
    `<rules></rules>`, inside the thought.
    """

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    def id(token: str) -> int:
        return tokenizer.convert_tokens_to_ids(token)

    (think,), (word,), close, end = ids("a"), ids("b"), id("</think>"), tokenizer.eos_token_id
    steps: dict[int, dict[int, float]] = {word: {end: 0.9, word: 0.1}}
    if opening == "<tool_call>":
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens([BODY])
        opened, closed, body = id(opening), id(closing), tokenizer.convert_tokens_to_ids(BODY)
        steps[think] = {think: 0.4, close: 0.6}
        steps[close] = {opened: 0.4, word: 0.6}
        steps[opened] = {body: 0.8, word: 0.2}
        steps[body] = {closed: 0.95, end: 0.05}
    else:
        spelled = ids(opening + closing)
        for token, follower in itertools.pairwise(spelled):
            found = steps.setdefault(token, {})
            found[follower] = 1.0
        steps[think] = {think: 0.1, close: 0.5, spelled[0]: 0.4}
        steps[spelled[-1]] = {**steps.get(spelled[-1], {}), think: 1.0}
        steps[close] = {word: 1.0}
    return chain(path, family, tokenizer, think, steps)


def chain(path: pathlib.Path, family: str, tokenizer, start: int, steps: dict[int, dict[int, float]]) -> str:
    """A student whose next token depends on the last alone: {token: {follower: p}}; `start` comes after all others."""
    directory(path, family, tokenizer, {start: 10.0}, spread=0.0)
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    embed, head = (np.array(tensors[name]) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    embed[:, 1:] = 0.0
    width = embed.shape[1]
    rms = float(np.sqrt((1 + 3**2) / width))
    for place, (token, followers) in enumerate(steps.items(), start=1):
        # The norm scales the constant direction by 1 / rms and the token's own by 3 / rms.
        embed[token, place] = 3.0
        wanted = np.full(len(head), -10.0, np.float32)
        for follower, p in followers.items():
            wanted[follower] = 10.0 + np.log(p)
        head[:, place] = (wanted - head[:, 0] / rms) * rms / 3.0
    tensors |= {"model.embed_tokens.weight": embed, "lm_head.weight": head}
    safetensors.numpy.save_file(tensors, path / "model.safetensors")
    return str(path)
