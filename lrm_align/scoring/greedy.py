"""A few greedy tokens after each of many prompts: what a guard says, and how likely its words were.

The engine of `sampling` is for traces; this decodes a fixed batch together, and needs nothing but the model.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models import Model, partition
from lrm_align.models.decoder import head_logits
from lrm_align.scoring.choice import batches, buckets


class Written(NamedTuple):
    """What follows a prompt.

    Attributes:
      ids: S tokens, without the stop token.
      p_SxW: float32, of each of the choices where each token was chosen, in the whole vocabulary.
    """

    ids: list[int]
    p_SxW: np.ndarray


@functools.partial(jax.jit, static_argnames=("model", "new_tokens", "stop"))
def _decode(
    model: Model,
    params: Any,
    tokens_BxT: jax.Array,
    lengths_B: jax.Array,
    choices_W: jax.Array,
    new_tokens: int,
    stop: int,
) -> tuple[jax.Array, jax.Array]:
    """ids_BxS, filled with `stop` after the first one, and logp_BxSxW."""
    B, T = tokens_BxT.shape
    hidden_BxTxD, k, v = model.prefill(params, tokens_BxT, lengths_B)
    cache = model.init_cache(B, T + new_tokens).put(k, v, jnp.arange(B))
    last_BxD = jnp.take_along_axis(hidden_BxTxD, (lengths_B - 1)[:, None, None], 1)[:, 0]

    def step(state):
        number, hidden_BxD, cache, ids_BxS, logp_BxSxW, done_B = state
        logits_BxV = head_logits(hidden_BxD, model.head(params))
        logp_BxW = jax.nn.log_softmax(logits_BxV)[:, choices_W]
        token_B = jnp.where(done_B, stop, jnp.argmax(logits_BxV, -1)).astype(jnp.int32)
        ids_BxS, logp_BxSxW = ids_BxS.at[:, number].set(token_B), logp_BxSxW.at[:, number].set(logp_BxW)
        hidden_BxD, cache = model.decode(params, cache, token_B, lengths_B + number)
        return number + 1, hidden_BxD, cache, ids_BxS, logp_BxSxW, done_B | (token_B == stop)

    ids_BxS = jnp.full((B, new_tokens), stop, jnp.int32)
    logp_BxSxW = jnp.zeros((B, new_tokens, len(choices_W)), jnp.float32)
    state = (jnp.int32(0), last_BxD, cache, ids_BxS, logp_BxSxW, jnp.zeros(B, bool))
    found = jax.lax.while_loop(lambda s: (s[0] < new_tokens) & ~s[5].all(), step, state)[3:5]
    return partition.replicated(found)


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
    choices: Sequence[int] = (),
) -> list[Written]:
    """The likeliest tokens after each prompt, and how likely each choice was at each of them.

    Args:
      model: static.
      params: its parameters.
      prompts: ids, none longer than `longest` and none empty.
      stop: id that ends a completion.
      new_tokens: the most that is written.
      longest: the longest padded length.
      tokens: the most that a batch of prompts holds.
      multiple: rows of a batch come in multiples of it, for a mesh.
      choices: W token ids.
    """
    written = [Written([], np.zeros((0, len(choices)), np.float32)) for _ in prompts]
    choices_W = np.asarray(choices, np.int32)
    lengths = [len(prompt) for prompt in prompts]
    for numbers, rows, size in batches(lengths, buckets(longest), tokens, multiple):
        tokens_BxT, lengths_B = np.zeros((rows, size), np.int32), np.ones(rows, np.int32)
        for row, number in enumerate(numbers):
            tokens_BxT[row, : lengths[number]] = prompts[number]
            lengths_B[row] = lengths[number]
        ids_BxS, logp_BxSxW = _decode(model, params, tokens_BxT, lengths_B, choices_W, new_tokens, stop)
        p_BxSxW = np.exp(np.asarray(logp_BxSxW))
        for number, ids, p_SxW in zip(numbers, np.asarray(ids_BxS).tolist(), p_BxSxW):
            ids = ids[: ids.index(stop)] if stop in ids else ids
            written[number] = Written(ids, p_SxW[: len(ids)])
    return written
