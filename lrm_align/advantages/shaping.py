"""What is taken off a reward before its statistics, and the bounds of an advantage after them."""

import jax.numpy as jnp

from lrm_align.advantages.group import Transform, transform
from lrm_align.errors import UserError


def kl_in_reward(beta: float) -> Transform:
    """R_i - β · KL_i with KL_i = Σ_t log π(x_t) - log π_ref(x_t) over the sample's own tokens.

    The divergence inside of the reward, estimated by k1, which is unbiased there; as a loss, k1 has zero expected
    gradient. It stands first in a chain, so that the statistics are of what is learned. A sample whose KL is not finite
    is unscored.

    Args:
      beta: weight, above 0.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[1.0, 0.0]]), kl_GxN=np.array([[2.0, 4.0]]))
    >>> print(kl_in_reward(0.25)(group.reward_GxN, group))
    [[ 0.5 -1. ]]

    Raises:
      UserError: β is not above 0; in use, no `kl_GxN`, or shapes that do not fit.
    """
    if not beta > 0:
        raise UserError(f"kl_in_reward: beta is {beta}; it must be above 0: leave the transform out for no penalty")
    return transform(
        "kl_in_reward",
        lambda a_GxN, scored_GxN, group: a_GxN - beta * jnp.where(scored_GxN, jnp.asarray(group.kl_GxN), 0),
        needs=("kl_GxN",),
    )


def soft_overlong(max_length: int, buffer: int, weight: float = 1.0) -> Transform:
    """R_i + w · min(0, max(-1, (L - b - y_i) / b)), y_i the sample's tokens.

    DAPO's soft overlong punishment (arXiv 2503.14476, equation 13; TRL's and with w = 1 its numbers): nothing up to
    L - b tokens, then falling to -w at L. It stands first in a chain. verl's is not bounded below, OpenRLHF's is.

    Args:
      max_length: L, tokens.
      buffer: b, tokens before L over which the punishment grows.
      weight: w.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[1.0, 1.0, 1.0]]), length_GxN=np.array([[80, 90, 200]]))
    >>> print(soft_overlong(100, 20)(group.reward_GxN, group))
    [[1.  0.5 0. ]]

    Raises:
      UserError: not 0 < buffer ≤ max_length; in use, no `length_GxN`, or shapes that do not fit.
    """
    if not 0 < buffer <= max_length:
        raise UserError(f"soft_overlong: buffer is {buffer} of max_length {max_length}; wanted 0 < buffer ≤ max_length")

    def apply(a_GxN, scored_GxN, group):
        y_GxN = jnp.asarray(group.length_GxN, a_GxN.dtype)
        return a_GxN + weight * jnp.clip((max_length - buffer - y_GxN) / buffer, -1, 0)

    return transform("soft_overlong", apply, needs=("length_GxN",))


def clip(limit: float) -> Transform:
    """min(max(A_i, -limit), limit): no sample is heard louder than this, however rare it is.

    Last in a chain: centring after it would move the bounds, scaling would change their unit.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[1.0, -7.0]]))
    >>> print(clip(5.0)(group.reward_GxN, group))
    [[ 1. -5.]]

    Raises:
      UserError: a limit that is not above 0; in use, shapes that do not fit.
    """
    if not limit > 0:
        raise UserError(f"clip: the limit is {limit}; it must be above 0")
    return transform("clip", lambda a_GxN, scored_GxN, _: jnp.clip(a_GxN, -limit, limit))
