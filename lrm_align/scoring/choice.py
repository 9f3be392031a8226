"""The probabilities of a few tokens after a prompt, one forward pass for many prompts."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models import Model, partition
from lrm_align.models.decoder import head_logits


@functools.partial(jax.jit, static_argnums=0)
def choice_logp(
    model: Model, params: Any, tokens_BxT: jax.Array, lengths_B: jax.Array, choices_W: jax.Array, back_P: jax.Array
) -> jax.Array:
    """logp_BxPxW = log softmax over the whole vocabulary, read at W tokens, at P places of each row.

    Args:
      model: static.
      params: its parameters.
      tokens_BxT: rows padded on the right.
      lengths_B: their lengths, more than the largest of `back_P`.
      choices_W: token ids.
      back_P: how many tokens of the row follow the one after which is read; 0 reads after its last token.
    """
    segment_ids_BxT = (jnp.arange(tokens_BxT.shape[1]) < lengths_B[:, None]).astype(jnp.int32)
    hidden_BxTxD = model.hidden(params, tokens_BxT, segment_ids_BxT)
    # Only these positions meet the head: the logits are B×P×V, not B×T×V.
    places_BxP = lengths_B[:, None] - 1 - back_P
    read_BxPxD = jnp.take_along_axis(hidden_BxTxD, places_BxP[:, :, None], axis=1)
    logits_BxPxV = head_logits(read_BxPxD, model.head(params))
    return partition.replicated(jax.nn.log_softmax(logits_BxPxV)[:, :, choices_W])


def buckets(longest: int, shortest: int = 256) -> list[int]:
    """Padded lengths up to `longest`, each at most 1.5 times the one before, so that few shapes are compiled.

    >>> buckets(2000)
    [256, 384, 512, 768, 1024, 1536, 2000]
    """
    sizes, size = [], shortest
    while size < longest:
        sizes.append(size)
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return [*sizes, longest]


def batches(
    lengths: Sequence[int], sizes: Sequence[int], tokens: int, multiple: int = 1
) -> Iterator[tuple[list[int], int, int]]:
    """Groups of rows of like length, as (row numbers, rows of the batch, padded length).

    A padded length has one number of rows in a call: `multiple` times a power of four, or what `tokens` allows. So few
    shapes are compiled, whatever is asked, and a handful of rows is not padded to a full batch.

    Args:
      lengths: of the rows.
      sizes: padded lengths to choose from, ascending; the last holds every row.
      tokens: the most a batch may hold, if more than `multiple` rows fit.
      multiple: what the number of rows must be divisible by, for a mesh.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    start = 0
    for size in sizes:
        end = start + sum(lengths[i] <= size for i in order[start:])
        most = max(multiple, tokens // size // multiple * multiple)
        rows = multiple
        while rows < min(end - start, most):
            rows = min(4 * rows, most)
        for first in range(start, end, rows):
            yield order[first : min(first + rows, end)], rows, size
        start = end


def choice_probabilities(
    model: Model,
    params: Any,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[int],
    *,
    longest: int,
    tokens: int = 65_536,
    multiple: int = 1,
) -> np.ndarray:
    """Float32 p[prompt, choice] after the last token of each prompt, each judged alone in its row.

    Args:
      model: static.
      params: its parameters.
      prompts: ids, none longer than `longest` and none empty.
      choices: W token ids.
      longest: the longest padded length.
      tokens: the most that one forward pass holds.
      multiple: rows of a batch come in multiples of it, for a mesh.
    """
    settings = {"longest": longest, "tokens": tokens, "multiple": multiple}
    return probabilities_at(model, params, prompts, choices, (0,), **settings)[:, 0]


def probabilities_at(
    model: Model,
    params: Any,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[int],
    back: Sequence[int],
    *,
    longest: int,
    tokens: int = 65_536,
    multiple: int = 1,
) -> np.ndarray:
    """Float32 p[prompt, place, choice], several places of a row in one pass: `choice_probabilities` is its last.

    Args:
      model: static.
      params: its parameters.
      prompts: ids, none longer than `longest`, each longer than all of `back`.
      choices: W token ids.
      back: P places, as tokens that follow the one after which is read.
      longest: the longest padded length.
      tokens: the most that one forward pass holds.
      multiple: rows of a batch come in multiples of it, for a mesh.
    """
    lengths = [len(prompt) for prompt in prompts]
    p = np.zeros((len(prompts), len(back), len(choices)), np.float32)
    back_P = np.asarray(back, np.int32)
    for numbers, rows, size in batches(lengths, buckets(longest), tokens, multiple):
        tokens_BxT = np.zeros((rows, size), np.int32)
        lengths_B = np.full(rows, 1 + max(back), np.int32)
        for row, number in enumerate(numbers):
            tokens_BxT[row, : lengths[number]] = prompts[number]
            lengths_B[row] = lengths[number]
        logp = choice_logp(model, params, tokens_BxT, lengths_B, np.asarray(choices, np.int32), back_P)
        p[numbers] = np.exp(np.asarray(logp))[: len(numbers)]
    return p
