"""From one advantage a sample to one a token of packed rows."""

from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.errors import UserError


def broadcast(
    advantage_GxN: Any,
    sample_BxS: Any,
    segment_ids_BxT: Any,
    *,
    decision: tuple[Any, Any] | None = None,
) -> jax.Array:
    """A_t = A_i at every token of sample i; at the tokens of a decision, that of another chain.

    The second chain is how a reweighting reaches only the tokens that chose the mode (to call the tool, or not):
    `decision=(ifpo(…)'s advantage, mask)` and GRPO's for the rest. Closest to weights on an *action*, and the reasoning
    around the choice keeps GRPO's credit; but a loss that averages over tokens hears a decision of ten tokens softly.

    Args:
      advantage_GxN: of the samples.
      sample_BxS: g · N + n of the sample in each segment of each row (segment s at s - 1); -1 for none.
      segment_ids_BxT: 0 for padding, 1… for the traces of a row.
      decision: (advantage_GxN, mask_BxT): the advantage at the tokens where the mask is not 0.

    Returns:
      advantage_BxT; 0 at padding and for segments without a sample.

    >>> import numpy as np
    >>> advantage, weighted = np.array([[1.0, -1.0]]), np.array([[3.0, -0.5]])
    >>> rows = {"sample_BxS": np.array([[1, 0]]), "segment_ids_BxT": np.array([[1, 1, 2, 2, 0]])}
    >>> broadcast(advantage, **rows).tolist()
    [[-1.0, -1.0, 1.0, 1.0, 0.0]]
    >>> broadcast(advantage, **rows, decision=(weighted, np.array([[0, 1, 0, 1, 0]]))).tolist()
    [[-1.0, -0.5, 1.0, 3.0, 0.0]]

    Raises:
      UserError: shapes that do not fit.
    """
    advantage_BxT = _placed("advantage_GxN", advantage_GxN, sample_BxS, segment_ids_BxT)
    if decision is None:
        return advantage_BxT
    weighted_GxN, mask_BxT = decision
    _same("decision's advantage_GxN", weighted_GxN, jnp.shape(advantage_GxN))
    _same("decision's mask_BxT", mask_BxT, jnp.shape(segment_ids_BxT))
    weighted_BxT = _placed("decision's advantage_GxN", weighted_GxN, sample_BxS, segment_ids_BxT)
    return jnp.where(jnp.asarray(mask_BxT) != 0, weighted_BxT, advantage_BxT)


def _placed(name: str, advantage_GxN: Any, sample_BxS: Any, segment_ids_BxT: Any) -> jax.Array:
    sample_BxS, segment_ids_BxT = jnp.asarray(sample_BxS), jnp.asarray(segment_ids_BxT)
    if sample_BxS.ndim != 2 or segment_ids_BxT.ndim != 2 or sample_BxS.shape[0] != segment_ids_BxT.shape[0]:
        raise UserError(
            f"broadcast: sample_BxS has the shape {sample_BxS.shape} and segment_ids_BxT {segment_ids_BxT.shape}; "
            "wanted (rows, segments) and (rows, positions)"
        )
    if len(jnp.shape(advantage_GxN)) != 2:
        raise UserError(f"broadcast: {name} has the shape {jnp.shape(advantage_GxN)}; wanted (groups, samples)")
    advantage = jnp.asarray(advantage_GxN).reshape(-1)
    advantage_BxS = jnp.where(sample_BxS >= 0, advantage[jnp.maximum(sample_BxS, 0)], 0)
    advantage_BxT = jnp.take_along_axis(advantage_BxS, jnp.maximum(segment_ids_BxT - 1, 0), axis=1)
    return jnp.where(segment_ids_BxT > 0, advantage_BxT, 0)


def _same(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    if jnp.shape(value) != wanted:
        raise UserError(f"broadcast: the {name} has the shape {jnp.shape(value)}; wanted {wanted}")
