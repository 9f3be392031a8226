"""In which unit an advantage is measured: standard deviations of the group or of the batch."""

import jax
import jax.numpy as jnp

from lrm_align.advantages.group import Group, Transform, transform
from lrm_align.advantages.statistics import BATCH, EPS, GROUP, centred, scaled
from lrm_align.errors import UserError


def group_scale(eps: float = EPS, ddof: int = 1) -> Transform:
    """A_i / (σ_g + ε), σ_g the standard deviation of the group's scored values.

    With `group_center` before it, GRPO's advantage (arXiv 2402.03300). A group without spread gets 0.

    Args:
      eps: added to σ.
      ddof: taken off the number of samples; 1 in every trainer, 0 is the population's.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group, chain, group_center
    >>> group = Group(np.array([[2.0, 0.0, 1.0, -2.0], [1.0, 1.0, 1.0, 1.0]]))
    >>> print(np.asarray(chain(group_center(), group_scale())(group.reward_GxN, group)).round(4))
    [[ 1.0246 -0.1464  0.4391 -1.3174]
     [ 0.      0.      0.      0.    ]]

    Raises:
      UserError: a negative ε, or a ddof other than 0 and 1; in use, groups of one sample, or shapes that do not fit.
    """
    check_scale("group_scale", eps, ddof)
    return transform("group_scale", lambda a_GxN, scored_GxN, _: scaled(a_GxN, scored_GxN, GROUP, eps, ddof), least=2)


def batch_scale(eps: float = EPS, ddof: int = 1) -> Transform:
    """A_i / (σ + ε), σ the standard deviation of the *present* values over all scored samples of the batch.

    So the place in the chain decides what σ is of: before `group_center` it is of the rewards (TRL
    `scale_rewards="batch"`, Lite PPO, arXiv 2508.08221); after it, of the centred rewards (REINFORCE++, arXiv
    2501.03262). A batch without spread gets 0.

    Args:
      eps: added to σ.
      ddof: taken off the number of samples.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group, chain, group_center
    >>> group = Group(np.array([[2.0, 0.0, 1.0, -2.0], [1.0, 1.0, 1.0, 1.0]]))
    >>> print(np.asarray(chain(batch_scale(), group_center())(group.reward_GxN, group)).round(4))
    [[ 1.4733 -0.2105  0.6314 -1.8942]
     [ 0.      0.      0.      0.    ]]

    Raises:
      UserError: a negative ε, or a ddof other than 0 and 1; in use, shapes that do not fit.
    """
    check_scale("batch_scale", eps, ddof)
    return transform("batch_scale", lambda a_GxN, scored_GxN, _: scaled(a_GxN, scored_GxN, BATCH, eps, ddof))


def standardized_parts(weights: tuple[float, ...] | None = None, eps: float = EPS, ddof: int = 1) -> Transform:
    """S_i = Σ_k w_k · (R^k_i - mean_g(R^k)) / (σ^k_g + ε): every part of the reward in units of its own spread.

    The first half of GDPO (arXiv 2601.05242; TRL `multi_objective_aggregation="normalize_then_sum"`): a part of small
    range is heard as loudly as one of large range. It starts from the group's parts and takes the place of the reward,
    so it stands first in a chain. A part that is missing (not finite) is outside of that part's statistics and adds 0.

    Args:
      weights: one per part; all 1 where None.
      eps: added to σ.
      ddof: taken off the number of samples.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[2.0, 0.0]]), parts_GxNxK=np.array([[[1.0, 100.0], [-1.0, 300.0]]]))
    >>> print(np.asarray(standardized_parts((1.0, 2.0))(group.reward_GxN, group)).round(3))
    [[-0.707  0.707]]

    Raises:
      UserError: a negative ε, or a ddof other than 0 and 1; in use, groups of one sample, no parts, another number of
        weights, or shapes that do not fit.
    """
    check_scale("standardized_parts", eps, ddof)

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, group: Group) -> jax.Array:
        parts_GxNxK = jnp.asarray(group.parts_GxNxK, a_GxN.dtype)
        K = parts_GxNxK.shape[-1]
        if weights is not None and len(weights) != K:
            raise UserError(
                f"standardized_parts: {len(weights)} weights were given; wanted {K}, one per part of the reward"
            )
        there_GxNxK = scored_GxN[..., None] & jnp.isfinite(parts_GxNxK)
        centred_GxNxK = centred(jnp.where(there_GxNxK, parts_GxNxK, 0), there_GxNxK, GROUP)
        standard_GxNxK = scaled(centred_GxNxK, there_GxNxK, GROUP, eps, ddof)
        return jnp.sum(standard_GxNxK * jnp.asarray(weights or (1.0,) * K, a_GxN.dtype), axis=-1)

    return transform("standardized_parts", apply, needs=("parts_GxNxK",), least=2)


def check_scale(name: str, eps: float, ddof: int) -> None:
    """Raises:
    UserError: a negative ε, or a ddof other than 0 and 1.
    """
    if not eps >= 0 or ddof not in (0, 1):
        raise UserError(f"{name}: eps is {eps} and ddof {ddof}; eps must be at least 0, ddof 0 or 1")
