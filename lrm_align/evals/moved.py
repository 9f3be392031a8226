"""How far words that are put into a text move the model that goes on with it, in nats a token."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.models import Model, partition
from lrm_align.models.scores import token_scores

LENGTHS = 64  # rows are padded to multiples of it, so that few programs are compiled


class Moved(NamedTuple):
    """A text, words put into it, and what followed where nothing was put in.

    Attributes:
      before: ids of prompt and thought up to the place.
      words: ids that are put there.
      after: ids that the model itself drew there without them; at least one.
    """

    before: Sequence[int]
    words: Sequence[int]
    after: Sequence[int]


def kl(
    model: Model, params: Any, rows: Sequence[Moved], mesh: jax.sharding.Mesh, *, horizon: int, size: int
) -> np.ndarray:
    """(rows,) mean over the first H tokens y of `after` of KL(p(· | before, y_<t) ‖ p(· | before, words, y_<t)).

    Nats a token, over the whole vocabulary, at temperature 1. Times H this is one sample, with the inner expectation
    done exactly, of the KL from the model's next H tokens to those it would draw after the words (chain rule, y drawn
    from the model without them).

    Args:
      model: static.
      params: its parameters, on the mesh.
      rows: what to measure.
      mesh: where the parameters lie.
      horizon: H; fewer tokens where fewer followed.
      size: rows at a time, a multiple of the mesh's batch shards.
    """
    longest = max((len(row.before) + len(row.words) for row in rows), default=0) + horizon
    length = -(-longest // LENGTHS) * LENGTHS
    found: list[float] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        plain_BxT, moved_BxT = np.zeros((2, size, length), np.int32)
        after_BxH, counted_BxH = np.zeros((size, horizon), np.int32), np.zeros((size, horizon), bool)
        last_B, shift_B = np.zeros((2, size), np.int32)
        for b, row in enumerate(part):
            after = list(row.after[:horizon])
            plain, moved = [*row.before, *after], [*row.before, *row.words, *after]
            plain_BxT[b, : len(plain)], moved_BxT[b, : len(moved)] = plain, moved
            after_BxH[b, : len(after)], counted_BxH[b, : len(after)] = after, True
            last_B[b], shift_B[b] = len(row.before) - 1, len(row.words)
        with jax.set_mesh(mesh):
            kl_BxH = np.asarray(_kl(model, params, plain_BxT, moved_BxT, last_B, shift_B, after_BxH), np.float64)
        found += (np.where(counted_BxH, kl_BxH, 0).sum(1) / np.maximum(counted_BxH.sum(1), 1))[: len(part)].tolist()
    return np.asarray(found)


@functools.partial(jax.jit, static_argnames="model")
def _kl(model: Model, params, plain_BxT, moved_BxT, last_B, shift_B, after_BxH):
    places_BxH = last_B[:, None] + jnp.arange(after_BxH.shape[1])

    def hidden(tokens_BxT, at_BxH):
        return jnp.take_along_axis(model.hidden(params, tokens_BxT), at_BxH[..., None], axis=1)

    head = model.head(params)
    reference = (hidden(plain_BxT, places_BxH), head)
    moved = hidden(moved_BxT, places_BxH + shift_B[:, None])
    options: dict[str, Any] = {"vocab_size": model.config.vocab_size, "chunk": None, "rules": model.rules}
    scores = token_scores(moved, head, after_BxH, needs=("kl_forward",), reference=reference, **options)
    return partition.replicated(scores["kl_forward"])
