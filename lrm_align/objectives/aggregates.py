"""From token losses to the loss of the batch: L = Σ_t m_t · w_t · l_t / total, all weights from masks alone.

n_i is the number of trained tokens of trace i, N their sum over the global batch, and B the number of traces that have
any. verl, OpenRLHF and Tunix count B like this; TRL counts traces that are wholly masked, too.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.objectives.objective import divided
from lrm_align.objectives.pieces import check_number
from lrm_align.objectives.segments import segment_sum, spread

Layout = tuple[jax.Array, jax.Array, int]  # mask_BxT, segment_ids_BxT, S


class Aggregate(NamedTuple):
    """How token losses are weighed.

    Attributes:
      weight: the layout of some rows -> w_BxT.
      total: the layout of the whole global batch -> the scalar that the sum is divided by.
    """

    weight: Callable[[Layout], jax.Array]
    total: Callable[[Layout], jax.Array]


def token_mean() -> Aggregate:
    """L = (1 / N) Σ_i Σ_t l_it: TRL `dapo` (and `bnpo` on one device), verl `token-mean`, OpenRLHF's default."""
    return Aggregate(_ones, lambda layout: jnp.sum(layout[0], dtype=jnp.float32))


def sequence_mean() -> Aggregate:
    """L = (1 / B) Σ_i (1 / n_i) Σ_t l_it: TRL `grpo`, verl `seq-mean-token-mean`, Tunix's default."""
    return Aggregate(_inverse_length, _traces)


def sequence_sum() -> Aggregate:
    """L = (1 / B) Σ_i Σ_t l_it: verl and Tunix `seq-mean-token-sum`, and TRL's `luspo` with the sequence ratio."""
    return Aggregate(_ones, _traces)


def constant(length: float) -> Aggregate:
    """L = (1 / (B · length)) Σ_i Σ_t l_it: TRL `dr_grpo`, whose length is the most tokens of a completion.

    verl's `seq-mean-token-sum-norm` is this with `loss_scale_factor`; without one it divides by the padded width.

    Raises:
      UserError: a length that is not above 0.
    """
    check_number("constant", "length", length, 0.0, above=True)
    return Aggregate(_ones, lambda layout: _traces(layout) * length)


AGGREGATES: dict[str, Callable[..., Aggregate]] = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_sum": sequence_sum,
    "constant": constant,
}


def _ones(layout: Layout) -> jax.Array:
    return jnp.ones_like(layout[0])


def _inverse_length(layout: Layout) -> jax.Array:
    length_BxS = segment_sum(*layout)
    return spread(divided(jnp.ones_like(length_BxS), length_BxS), layout[1])


def _traces(layout: Layout) -> jax.Array:
    return jnp.sum(segment_sum(*layout) > 0, dtype=jnp.float32)
