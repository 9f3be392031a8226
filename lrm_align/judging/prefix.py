"""The probabilities of a few tokens after prompts that begin alike: what they share is computed once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models import Model, partition
from lrm_align.models.decoder import head_logits
from lrm_align.scoring.choice import batches, buckets, choice_probabilities

SHORTEST = 32  # tokens: below this a shared beginning is not worth a program of its own


@functools.partial(jax.jit, static_argnums=0)
def _prefix(model: Model, params: Any, ids_1xP: jax.Array) -> tuple[jax.Array, jax.Array]:
    _, k, v = model.prefill(params, ids_1xP, jnp.full(1, ids_1xP.shape[1], jnp.int32))
    return k[:, 0], v[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def _logp(
    model: Model, params: Any, k_LxPxKxH: jax.Array, v_LxPxKxH: jax.Array, tokens_BxT, lengths_B, choices_W
) -> jax.Array:
    """logp_BxW after the last token of each row, which goes on from the prefix."""
    hidden_BxTxD = model.extend(params, k_LxPxKxH, v_LxPxKxH, tokens_BxT)
    last_BxD = jnp.take_along_axis(hidden_BxTxD, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    return partition.replicated(jax.nn.log_softmax(head_logits(last_BxD, model.head(params)))[:, choices_W])


def shared(prompts: Sequence[list[int]]) -> int:
    """How many ids all prompts begin with; at least one is left of each.

    >>> shared([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3, 6]]), shared([[1, 2]])
    (2, 1)
    """
    least, most = min(prompts), max(prompts)  # in their order, so that all others lie between
    size = next((i for i, (a, b) in enumerate(zip(least, most)) if a != b), min(len(least), len(most)))
    return min(size, min(map(len, prompts)) - 1)


def probabilities(
    model: Model, params: Any, prompts: Sequence[list[int]], choices: Sequence[int], *, longest: int, tokens: int,
    multiple: int = 1,
) -> np.ndarray:  # fmt: skip
    """Float32 p[prompt, choice] after each prompt: `choice_probabilities`, to rounding, in less time.

    Args:
      model: static.
      params: its parameters.
      prompts: ids, none longer than `longest` and none empty.
      choices: W token ids.
      longest: the longest prompt.
      tokens: the most that one forward pass holds.
      multiple: rows of a batch come in multiples of it, for a mesh.
    """
    size = shared(prompts) if prompts else 0
    if size < SHORTEST or model.config.rope.kind == "dynamic":
        settings = {"longest": longest, "tokens": tokens, "multiple": multiple}
        return choice_probabilities(model, params, prompts, choices, **settings)
    prefix = _prefix(model, params, np.asarray(prompts[0][:size], np.int32)[None])
    rests = [prompt[size:] for prompt in prompts]
    lengths = [len(rest) for rest in rests]
    p = np.zeros((len(prompts), len(choices)), np.float32)
    choices_W = np.asarray(choices, np.int32)
    for numbers, rows, width in batches(lengths, buckets(max(lengths), 64), tokens, multiple):
        tokens_BxT, lengths_B = np.zeros((rows, width), np.int32), np.ones(rows, np.int32)
        for row, number in enumerate(numbers):
            tokens_BxT[row, : lengths[number]] = rests[number]
            lengths_B[row] = lengths[number]
        logp_BxW = _logp(model, params, *prefix, tokens_BxT, lengths_B, choices_W)
        p[numbers] = np.exp(np.asarray(logp_BxW))[: len(numbers)]
    return p
