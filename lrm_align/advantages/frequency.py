"""Inverse-frequency weights: the rarer of two ways to act is heard as loudly as the frequent one (IFPO)."""

import jax
import jax.numpy as jnp

from lrm_align.advantages import modes
from lrm_align.advantages.group import Group, Transform, transform
from lrm_align.advantages.scales import check_scale
from lrm_align.advantages.statistics import EPS, GROUP, above_least, centred, count, scaled
from lrm_align.errors import UserError


def inverse_frequency(
    mode: str | None = None,
    *,
    exponent: float = 1.0,
    scope: str = "group",
    positive_only: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Transform:
    """A'_i = A_i · N / (M · n_m(i)): N scored samples of the group, M modes present, n_m of them of the sample's mode.

    The literal reading of IFPO (Wang et al. 2026, arXiv 2602.13562, whose abstract gives the idea and no formula): it
    weighs the *finished* advantage, so it stands after the scaling, which would undo a common factor before it. The
    weights sum to N; with one mode, or equally many samples of each, they are all 1. A sample without a mode keeps its
    advantage and is not counted.

    What it does, with probability p of the mode, and the mode better by D than the other (our analysis): the mode's
    logit is pushed by D/2 · (p² + (1-p)²) where plain GRPO pushes by p(1-p) · D. So the speed does not vanish near
    p = 0, and the sign is always that of D: what is worse gets rarer faster, too. The options, each for one concern:

    Args:
      mode: splits the samples into this mode and all others; None keeps all of `group.mode_names` apart.
      exponent: w = f_m^-exponent with f_m = n_m / N, divided by its mean over the samples; 0 is GRPO, 1 the formula
        above. In between, less variance from a mode that is nearly never seen.
      scope: where frequencies are counted. "group"; "batch" or "class" (groups of one `class_G`): smoother, and they
        weigh even where a group has one mode only; the weights then sum to N over the scope, and not in a group.
      positive_only: weigh positive advantages alone: a rare mode is not punished harder than GRPO would, and a frequent
        one not less; the push is then towards the rare mode even where both earn the same.
      bounds: (least, largest) weight. A success that is alone in its mode among 8 samples has an advantage of 2.5
        and a weight of 4; (0.25, 4.0) is a sensible choice. The weights then need not sum to N.

    After any of these a group need not sum to zero; `group_center()` after it makes it, `clip(x)` bounds the product.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group, chain, group_center
    >>> modes = {"mode_GxN": np.array([[1, 0, 0, 0]]), "mode_names": ("direct", "consult")}
    >>> group = Group(np.array([[3.0, 1.0, 1.0, -1.0]]), **modes)
    >>> print(np.asarray(chain(group_center(), inverse_frequency("consult"))(group.reward_GxN, group)).round(4))
    [[ 4.      0.      0.     -1.3333]]

    Raises:
      UserError: a negative exponent, an unknown scope, or bounds that are not 0 ≤ least ≤ largest; in use, a group
        without modes, without this mode's name, without classes where they are asked for, or shapes that do not fit.
    """
    if not exponent >= 0:
        raise UserError(f"inverse_frequency: exponent is {exponent}; it must be at least 0, which is no reweighting")
    if scope not in modes.SCOPES:
        raise UserError(f"inverse_frequency: scope is {scope!r}; supported are {', '.join(modes.SCOPES)}")
    if bounds is not None and not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1]):
        raise UserError(f"inverse_frequency: bounds are {bounds}; wanted (least, largest) with 0 ≤ least ≤ largest")

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, group: Group) -> jax.Array:
        of_GxNxM = modes.membership("inverse_frequency", mode, scored_GxN, group)
        n_GxM = modes.counts(of_GxNxM, modes.scope_matrix("inverse_frequency", scope, group), a_GxN.dtype)
        weight_GxM = _weights(n_GxM, exponent)
        weight_GxN = jnp.sum(jnp.where(of_GxNxM, weight_GxM[:, None], 0), axis=-1)
        weight_GxN = jnp.where(jnp.any(of_GxNxM, axis=-1), weight_GxN, 1)
        if bounds is not None:
            weight_GxN = jnp.clip(weight_GxN, *bounds)
        weighted_GxN = a_GxN * weight_GxN
        return jnp.where(a_GxN > 0, weighted_GxN, a_GxN) if positive_only else weighted_GxN

    return transform("inverse_frequency", apply, needs=("mode_GxN",))


def mode_balanced_center(mode: str | None = None) -> Transform:
    """A_i = R_i - b_g with b_g = mean over the modes present of the mode's mean reward in the group.

    In `group_center`'s place before `inverse_frequency` the mode's logit is pushed by D/4 whatever its probability is
    (our analysis): neither a vanishing nor a growing speed, and no push where both modes earn the same. A group in
    which no scored sample has a mode gets 0.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> modes = {"mode_GxN": np.array([[1, 0, 0, 0]]), "mode_names": ("direct", "consult")}
    >>> group = Group(np.array([[4.0, 1.0, 1.0, 1.0]]), **modes)
    >>> print(mode_balanced_center()(group.reward_GxN, group))
    [[ 1.5 -1.5 -1.5 -1.5]]

    Raises:
      UserError: in use, groups of one sample, no modes, an unknown mode, or shapes that do not fit.
    """

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, group: Group) -> jax.Array:
        of_GxNxM = modes.membership("mode_balanced_center", mode, scored_GxN, group)
        n_Gx1xM = count(of_GxNxM, GROUP)
        a_GxN = above_least(a_GxN, scored_GxN, GROUP)
        total_Gx1xM = jnp.sum(jnp.where(of_GxNxM, a_GxN[..., None], 0), axis=1, keepdims=True)
        mean_Gx1xM = total_Gx1xM / jnp.maximum(n_Gx1xM, 1)
        present_Gx1 = jnp.sum(n_Gx1xM > 0, axis=-1)
        baseline_Gx1 = jnp.sum(mean_Gx1xM, axis=-1) / jnp.maximum(present_Gx1, 1)
        return jnp.where(present_Gx1 > 0, a_GxN - baseline_Gx1, 0)

    return transform("mode_balanced_center", apply, needs=("mode_GxN",), least=2)


def mode_standardize(mode: str | None = None, eps: float = EPS, ddof: int = 1) -> Transform:
    """A_i = (R_i - μ_m) / (σ_m + ε), mean and deviation over the samples of the same mode in the group.

    It removes all that says *which* mode is better, so the choice of mode is not learned at all, only how to act within
    each (our analysis): a control, not a method. A sample that has no mode, or is alone in its mode, gets 0.

    Args:
      mode: splits the samples into this mode and all others; None keeps all of `group.mode_names` apart.
      eps: added to σ.
      ddof: taken off the number of samples.

    >>> import numpy as np
    >>> from lrm_align.advantages import Group
    >>> modes = {"mode_GxN": np.array([[1, 1, 0, 0]]), "mode_names": ("direct", "consult")}
    >>> group = Group(np.array([[9.0, 8.0, 1.0, 1.0]]), **modes)
    >>> print(np.asarray(mode_standardize()(group.reward_GxN, group)).round(3))
    [[ 0.707 -0.707  0.     0.   ]]

    Raises:
      UserError: a negative ε, or a ddof other than 0 and 1; in use, groups of one sample, no modes, an unknown mode, or
        shapes that do not fit.
    """
    check_scale("mode_standardize", eps, ddof)

    def apply(a_GxN: jax.Array, scored_GxN: jax.Array, group: Group) -> jax.Array:
        of_GxNxM = modes.membership("mode_standardize", mode, scored_GxN, group)
        centred_GxNxM = centred(jnp.where(of_GxNxM, a_GxN[..., None], 0), of_GxNxM, GROUP)
        return jnp.sum(scaled(centred_GxNxM, of_GxNxM, GROUP, eps, ddof), axis=-1)

    return transform("mode_standardize", apply, needs=("mode_GxN",), least=2)


def _weights(n_GxM: jax.Array, exponent: float) -> jax.Array:
    """f_m^-exponent over its mean, weighted by samples; 1 for a mode that nobody is of."""
    N_Gx1 = jnp.maximum(jnp.sum(n_GxM, axis=1, keepdims=True), 1)
    present_GxM = n_GxM > 0
    raw_GxM = jnp.where(present_GxM, (N_Gx1 / jnp.where(present_GxM, n_GxM, 1)) ** exponent, 0)
    mean_Gx1 = jnp.sum(n_GxM * raw_GxM, axis=1, keepdims=True) / N_Gx1
    return jnp.where(present_GxM, raw_GxM / jnp.where(mean_Gx1 > 0, mean_Gx1, 1), 1)
