"""What an advantage is measured from: means of the group or of the batch."""

import jax
import jax.numpy as jnp

from lrm_align.advantages.group import Group, Transform, transform
from lrm_align.advantages.statistics import BATCH, GROUP, centred, count


def group_center() -> Transform:
    """A_i = R_i - mean_g(R), over the scored samples of the group.

    Alone it is Dr. GRPO's advantage (arXiv 2503.20783; TRL `scale_rewards="none"`). A single scored sample is its own
    mean and gets 0. Once more after a reweighting it makes the group sum to zero again.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group, chain
    >>> group = Group(np.array([[2.0, 0.0, 1.0, -2.0]]))
    >>> print(group_center()(group.reward_GxN, group))
    [[ 1.75 -0.25  0.75 -2.25]]

    Raises:
      UserError: in use, groups of one sample, or shapes that do not fit.
    """
    return transform("group_center", lambda a_GxN, scored_GxN, _: centred(a_GxN, scored_GxN, GROUP), least=2)


def leave_one_out() -> Transform:
    """A_i = R_i - mean of the other scored samples of the group = n/(n-1) · (R_i - mean_g(R)).

    RLOO (arXiv 2402.14740): the baseline of a sample does not depend on the sample, so the gradient is unbiased. A
    single scored sample has no others and gets 0.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[2.0, 0.0, 1.0, -2.0]]))
    >>> print(np.asarray(leave_one_out()(group.reward_GxN, group)).round(4))
    [[ 2.3333 -0.3333  1.     -3.    ]]

    Raises:
      UserError: in use, groups of one sample, or shapes that do not fit.
    """

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, _: Group) -> jax.Array:
        n_Gx1 = count(scored_GxN, GROUP)
        return centred(a_GxN, scored_GxN, GROUP) * (n_Gx1 / jnp.maximum(n_Gx1 - 1, 1))

    return transform("leave_one_out", apply, least=2)


def batch_center() -> Transform:
    """A_i = R_i - mean(R), over all scored samples of the batch.

    The only baseline that groups of one can have. After `group_center` it changes nothing where all samples are scored.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[2.0], [0.0], [1.0], [1.0]]))
    >>> print(batch_center()(group.reward_GxN, group))
    [[ 1.]
     [-1.]
     [ 0.]
     [ 0.]]

    Raises:
      UserError: in use, shapes that do not fit.
    """
    return transform("batch_center", lambda a_GxN, scored_GxN, _: centred(a_GxN, scored_GxN, BATCH))
