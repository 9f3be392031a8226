"""A few greedy tokens after each of many prompts: what a guard says beside its verdict.

The engine of `sampling` is for traces; this decodes a fixed batch together, and needs nothing but the model.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models import Model
from lrm_align.models.decoder import head_logits
from lrm_align.scoring.choice import batches, buckets


@functools.partial(jax.jit, static_argnames=("model", "new_tokens", "stop"))
def _decode(
    model: Model, params: Any, tokens_BxT: jax.Array, lengths_B: jax.Array, new_tokens: int, stop: int
) -> jax.Array:
    """ids_BxW, filled with `stop` after the first one."""
    B, T = tokens_BxT.shape
    hidden_BxTxD, k, v = model.prefill(params, tokens_BxT, lengths_B)
    cache = model.init_cache(B, T + new_tokens).put(k, v, jnp.arange(B))
    last_BxD = jnp.take_along_axis(hidden_BxTxD, (lengths_B - 1)[:, None, None], 1)[:, 0]

    def step(state):
        number, hidden_BxD, cache, ids_BxW, done_B = state
        likeliest_B = jnp.argmax(head_logits(hidden_BxD, model.head(params)), -1)
        token_B = jnp.where(done_B, stop, likeliest_B).astype(jnp.int32)
        hidden_BxD, cache = model.decode(params, cache, token_B, lengths_B + number)
        return number + 1, hidden_BxD, cache, ids_BxW.at[:, number].set(token_B), done_B | (token_B == stop)

    state = (jnp.int32(0), last_BxD, cache, jnp.full((B, new_tokens), stop, jnp.int32), jnp.zeros(B, bool))
    return jax.lax.while_loop(lambda s: (s[0] < new_tokens) & ~s[4].all(), step, state)[3]


def greedy(
    model: Model,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop: int,
    new_tokens: int,
    longest: int,
    tokens: int = 65_536,
    multiple: int = 1,
) -> list[list[int]]:
    """The likeliest tokens after each prompt, without the stop token.

    Args:
      model: static.
      params: its parameters.
      prompts: ids, none longer than `longest` and none empty.
      stop: id that ends a completion.
      new_tokens: the most that is written.
      longest: the longest padded length.
      tokens: the most that a batch of prompts holds.
      multiple: rows of a batch come in multiples of it, for a mesh.
    """
    written: list[list[int]] = [[] for _ in prompts]
    lengths = [len(prompt) for prompt in prompts]
    for numbers, rows, size in batches(lengths, buckets(longest), tokens, multiple):
        tokens_BxT, lengths_B = np.zeros((rows, size), np.int32), np.ones(rows, np.int32)
        for row, number in enumerate(numbers):
            tokens_BxT[row, : lengths[number]] = prompts[number]
            lengths_B[row] = lengths[number]
        ids_BxW = np.asarray(_decode(model, params, tokens_BxT, lengths_B, new_tokens, stop)).tolist()
        for number, ids in zip(numbers, ids_BxW):
            written[number] = ids[: ids.index(stop)] if stop in ids else ids
    return written
