"""The credit of methods by the names that people use."""

from collections.abc import Callable

import jax

from lrm_align.advantages.baselines import batch_center, group_center, leave_one_out
from lrm_align.advantages.chain import chain
from lrm_align.advantages.frequency import inverse_frequency, mode_balanced_center, mode_standardize
from lrm_align.advantages.group import Group, Transform, transform
from lrm_align.advantages.scales import batch_scale, check_scale, group_scale, standardized_parts
from lrm_align.advantages.shaping import clip
from lrm_align.advantages.statistics import BATCH, EPS, GROUP, centred, scaled
from lrm_align.errors import UserError


def grpo(scale: str = "group", eps: float = EPS) -> Transform:
    """A_i = (R_i - mean_g(R)) / (σ + ε): TRL's `scale_rewards`.

    Args:
      scale: σ of the "group" (GRPO, arXiv 2402.03300), of the rewards of the "batch", or "none".
      eps: added to σ; TRL's. verl and Tunix have 1e-6, OpenRLHF 1e-9.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[2.0, 0.0, 1.0, -2.0]]))
    >>> print(np.asarray(grpo()(group.reward_GxN, group)).round(4))
    [[ 1.0246 -0.1464  0.4391 -1.3174]]

    Raises:
      UserError: an unknown scale, or a negative ε.
    """
    orders: dict[str, Callable[[], Transform]] = {
        "group": lambda: chain(group_center(), group_scale(eps)),
        "batch": lambda: _center_in_units_of_the_batch(eps),
        "none": group_center,
    }
    if scale not in orders:
        raise UserError(f"grpo: scale is {scale!r}; supported are {', '.join(orders)}")
    return orders[scale]()


def dr_grpo() -> Transform:
    """A_i = R_i - mean_g(R): no scaling (arXiv 2503.20783); its loss is `objectives.dr_grpo`."""
    return group_center()


def rloo() -> Transform:
    """A_i = R_i - mean of the others of the group (arXiv 2402.14740)."""
    return leave_one_out()


def gdpo(weights: tuple[float, ...] | None = None, eps: float = EPS) -> Transform:
    """Â_i = (S_i - mean(S)) / (σ_S + ε) over the batch, S the sum of the parts, each standardized in its group.

    arXiv 2601.05242; equal to TRL's `multi_objective_aggregation="normalize_then_sum"`, whose statistics count samples
    as here; verl whitens over tokens.

    Args:
      weights: one per part of the reward; all 1 where None.
      eps: added to every σ.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> group = Group(np.array([[2.0, 0.0, 1.0]]), parts_GxNxK=np.array([[[1.0, 9.0], [-1.0, 7.0], [0.0, 8.0]]]))
    >>> print(np.asarray(gdpo()(group.reward_GxN, group)).round(3))
    [[ 1. -1. -0.]]
    """
    return chain(standardized_parts(weights, eps), batch_center(), batch_scale(eps))


def ifpo(
    mode: str | None = None,
    *,
    exponent: float = 1.0,
    scope: str = "group",
    positive_only: bool = False,
    bounds: tuple[float, float] | None = None,
    baseline: str = "group",
    recentre: bool = False,
    limit: float | None = None,
    eps: float = EPS,
) -> Transform:
    """GRPO's advantage times the inverse frequency of what the sample did (arXiv 2602.13562; see `inverse_frequency`).

    For weights on the tokens of the decision alone give `broadcast` this as `decision` and `grpo()` as the rest.

    Args:
      mode, exponent, scope, positive_only, bounds: of `inverse_frequency`.
      baseline: "group": GRPO's mean; "balanced": `mode_balanced_center`; "within": `mode_standardize`, a control.
      recentre: whether the weighted advantages are made to sum to zero in the group again.
      limit: of the size of an advantage, at the end; None for no limit.
      eps: added to σ.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> modes = {"mode_GxN": np.array([[1, 0, 0, 0]]), "mode_names": ("direct", "consult")}
    >>> group = Group(np.array([[1.0, 0.0, 0.0, 0.0]]), **modes)
    >>> print(np.asarray(ifpo("consult", limit=2.5)(group.reward_GxN, group)).round(3))
    [[ 2.5   -0.333 -0.333 -0.333]]

    Raises:
      UserError: an unknown baseline, or what `inverse_frequency` and `clip` refuse.
    """
    baselines: dict[str, Callable[[], Transform]] = {
        "group": lambda: chain(group_center(), group_scale(eps)),
        "balanced": lambda: chain(mode_balanced_center(mode), group_scale(eps)),
        "within": lambda: mode_standardize(mode, eps),
    }
    if baseline not in baselines:
        raise UserError(f"ifpo: baseline is {baseline!r}; supported are {', '.join(baselines)}")
    weighted = inverse_frequency(mode, exponent=exponent, scope=scope, positive_only=positive_only, bounds=bounds)
    after = [group_center()] if recentre else []
    after += [] if limit is None else [clip(limit)]
    return chain(baselines[baseline](), weighted, *after)


def _center_in_units_of_the_batch(eps: float) -> Transform:
    """chain(batch_scale(ε), group_center()), centred first: x / σ of large rewards rounds their differences away."""
    check_scale("grpo", eps, 1)

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, _: Group) -> jax.Array:
        return scaled(centred(a_GxN, scored_GxN, GROUP), scored_GxN, BATCH, eps, 1, of_GxN=a_GxN)

    return transform("grpo", apply, least=2)
