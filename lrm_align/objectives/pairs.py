"""The two answers of a pair in a packed row: who stands against whom, and which of their tokens count."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives.segments import segment_sum, spread

TrainOn = Callable[[Batch, "Seats"], jax.Array]  # -> mask_BxT
Weigh = Callable[[jax.Array, Batch, "Seats"], jax.Array]  # (mask_BxT, batch, seats) -> weight_BxT


class Seats(NamedTuple):
    """Where the two answers of each pair stand in their row.

    Attributes:
      partner_BxS: index of the other answer of each segment's pair; any index where there is none.
      paired_BxS: there is one, in the same row.
      chosen_BxS: there is one, and the segment is the chosen answer.
    """

    partner_BxS: jax.Array
    paired_BxS: jax.Array
    chosen_BxS: jax.Array

    def other(self, values_BxS: jax.Array) -> jax.Array:
        """The values of each segment's partner."""
        return jnp.take_along_axis(values_BxS, self.partner_BxS, axis=1)


def seats(pair_BxS: jax.Array | None) -> Seats:
    """Finds partners by the pairs' numbers; the order of segments in a row does not matter.

    Args:
      pair_BxS: chosen 2k, rejected 2k + 1, -1 unpaired; each number once in a row.

    Raises:
      UserError: there are no pairs in the batch.

    >>> import numpy as np
    >>> found = seats(np.int32([[3, -1, 0, 2, 1]]))
    >>> found.partner_BxS.tolist()[0][2:4], found.chosen_BxS.tolist()
    ([4, 0], [[False, False, True, True, False]])
    """
    if pair_BxS is None:
        raise UserError(
            "preference: the batch has no pair_BxS; a plan of pairs (chosen, rejected) fills it, data without pairs "
            "want another objective"
        )
    pair_BxS = jnp.asarray(pair_BxS)
    wanted_BxS = jnp.where(pair_BxS >= 0, pair_BxS ^ 1, -2)
    match_BxSxS = wanted_BxS[:, :, None] == pair_BxS[:, None, :]
    paired_BxS = jnp.any(match_BxSxS, axis=2)
    return Seats(jnp.argmax(match_BxSxS, axis=2), paired_BxS, paired_BxS & (pair_BxS % 2 == 0))


def answer(batch: Batch, seats_: Seats) -> jax.Array:
    """Trains on the whole answer: the loss mask as it is."""
    del seats_
    return jnp.asarray(batch.loss_mask_BxT)


def after_divergence(batch: Batch, seats_: Seats) -> jax.Array:
    """Trains from the first token on in which the two answers differ.

    For pairs that share a beginning, as where one answer is the other with an intervention in its middle (Intervened
    Preference Optimization, arXiv 2509.24393: "DPO only on tokens ≥ h"). Tokens are compared place by place from the
    start of the traces, so that both need the same prompt. An answer that is a beginning of the other has
    nothing left to train on, and such a pair does not count.

    With summed log-ratios and the reverse divergence a common beginning cancels in the margin anyway: sigmoid,
    smoothed, robust, hinge, exo and discopop have the same value and gradient either way. What changes is every loss
    that divides by the length or looks at one answer alone, and the SFT term.
    """
    ids_BxT = jnp.asarray(batch.segment_ids_BxT)
    tokens_BxT, positions_BxT = jnp.asarray(batch.tokens_BxT), jnp.asarray(batch.positions_BxT)
    real_BxT = ids_BxT > 0
    segments = seats_.partner_BxS.shape[1]
    length_BxS = segment_sum(real_BxT.astype(jnp.int32), ids_BxT, segments)
    start_BxS = _starts(batch, segments)
    place_BxT = spread(seats_.other(start_BxS), ids_BxT) + positions_BxT
    inside_BxT = positions_BxT < spread(seats_.other(length_BxS), ids_BxT)
    last = tokens_BxT.shape[1] - 1
    facing_BxT = jnp.take_along_axis(tokens_BxT, jnp.clip(place_BxT, 0, last), axis=1)
    differs_BxT = real_BxT & (~inside_BxT | (facing_BxT != tokens_BxT))
    differed_BxT = _running(differs_BxT.astype(jnp.int32), batch, segments) > 0
    return jnp.where(differed_BxT, jnp.asarray(batch.loss_mask_BxT), 0.0)


TRAIN_ON: dict[str, TrainOn] = {"answer": answer, "after_divergence": after_divergence}


def alike(mask_BxT: jax.Array, batch: Batch, seats_: Seats) -> jax.Array:
    """Every trained token counts the same."""
    del batch, seats_
    return mask_BxT


def desensitised(alpha: float) -> Weigh:
    """Trained tokens beyond the length of the pair's shorter answer count alpha (LD-DPO, arXiv 2409.06411).

    w_t = 1 for the first min(n_chosen, n_rejected) trained tokens of an answer, alpha after them.

    Args:
      alpha: from 0, which drops them, to 1, which is plain DPO.
    """

    def weigh(mask_BxT: jax.Array, batch: Batch, seats_: Seats) -> jax.Array:
        ids_BxT, segments = jnp.asarray(batch.segment_ids_BxT), seats_.partner_BxS.shape[1]
        trained_BxT = (mask_BxT > 0).astype(jnp.int32)
        length_BxS = segment_sum(trained_BxT, ids_BxT, segments)
        shared_BxS = jnp.minimum(length_BxS, seats_.other(length_BxS))
        beyond_BxT = _running(trained_BxT, batch, segments) > spread(shared_BxS, ids_BxT)
        return jnp.where(beyond_BxT, alpha * mask_BxT, mask_BxT)

    return weigh


def _starts(batch: Batch, segments: int) -> jax.Array:
    """Where each segment begins in its row."""
    positions_BxT = jnp.asarray(batch.positions_BxT)
    place_T = jnp.arange(positions_BxT.shape[1])
    return segment_sum(jnp.where(positions_BxT == 0, place_T, 0), batch.segment_ids_BxT, segments)


def _running(values_BxT: jax.Array, batch: Batch, segments: int) -> jax.Array:
    """Sums from the start of each segment up to and with each token."""
    total_BxT = jnp.cumsum(values_BxT, axis=1)
    before_BxS = jnp.take_along_axis(total_BxT - values_BxT, _starts(batch, segments), axis=1)
    return total_BxT - spread(before_BxS, jnp.asarray(batch.segment_ids_BxT))
