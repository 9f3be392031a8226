"""Which groups say anything, how many samples say nothing, and what samples did: counted, so that nothing is silent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_align.advantages.group import Group, check_shapes
from lrm_align.advantages.statistics import GROUP, count, has_spread
from lrm_align.errors import UserError

Metrics = dict[str, tuple[jax.Array, jax.Array]]


def keep(group: Group, above: float = 0.0) -> jax.Array:
    """keep_G: whether max R - min R > `above` over the scored samples: DAPO's dynamic sampling (arXiv 2503.14476).

    By spread, and not by a range of the mean as in OpenRLHF, whose default (0, 1) is wrong for rewards in another
    range. A group with fewer than two scored samples has no spread.

    Args:
      group: with the rewards.
      above: least difference.

    >>> import numpy as np
    >>> print(keep(Group(np.array([[1.0, 1.0], [1.0, 0.0], [1.0, float("nan")]]))))
    [False  True False]

    Raises:
      UserError: `above` is negative; shapes that do not fit.
    """
    if not above >= 0:
        raise UserError(f"keep: above is {above}; it must be at least 0")
    check_shapes("keep", group.reward_GxN, group)
    return has_spread(jnp.asarray(group.reward_GxN), group.scored, GROUP, above)[:, 0]


def metrics(group: Group) -> Metrics:
    """{name: (sum, weight)}: what of the batch carries credit.

    `groups/without_spread`, `groups/unscored` (no scored sample), `groups/single` (one): shares of the groups; the last
    two are among the first. `samples/unscored`, and `samples/not_finite` among them that were called valid: shares of
    the samples. `reward/mean`, of scored samples. `mode/NAME`: share of the scored samples; 0 where never
    seen.

    >>> import numpy as np
    >>> found = metrics(Group(np.array([[1.0, 0.0], [1.0, 0.0]]), valid_GxN=np.array([[1, 1], [1, 0]])))
    >>> {name: (float(total), float(weight)) for name, (total, weight) in found.items() if total}
    {'groups/without_spread': (1.0, 2.0), 'groups/single': (1.0, 2.0), 'samples/unscored': (1.0, 4.0),
     'reward/mean': (2.0, 3.0)}

    Raises:
      UserError: shapes that do not fit.
    """
    G, N = check_shapes("metrics", group.reward_GxN, group)
    scored_GxN = group.scored
    scored_G = count(scored_GxN, GROUP)[:, 0]
    called_GxN = jnp.ones((G, N), bool) if group.valid_GxN is None else jnp.asarray(group.valid_GxN) > 0
    reward_GxN = jnp.where(scored_GxN, jnp.asarray(group.reward_GxN), 0)
    scored = jnp.float32(jnp.sum(scored_GxN))

    def share(condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.float32(jnp.sum(condition)), jnp.float32(condition.size)

    found = {
        "groups/without_spread": share(~keep(group)),
        "groups/unscored": share(scored_G == 0),
        "groups/single": share(scored_G == 1),
        "samples/unscored": share(~scored_GxN),
        "samples/not_finite": share(called_GxN & ~scored_GxN),
        "reward/mean": (jnp.float32(jnp.sum(reward_GxN)), scored),
    }
    if group.mode_GxN is not None:
        mode_GxN = jnp.asarray(group.mode_GxN)
        for index, name in enumerate(group.mode_names):
            found[f"mode/{name}"] = (jnp.float32(jnp.sum(scored_GxN & (mode_GxN == index))), scored)
    return found


def check(group: Group) -> None:
    """Looks at a group on the host, before it goes where nothing can be raised.

    Raises:
      UserError: shapes that do not fit, a valid sample whose reward or KL is not finite, a mode or class beyond its
        names. The message names the first such sample.
    """
    check_shapes("group", group.reward_GxN, group)
    reward_GxN = np.asarray(group.reward_GxN)
    valid_GxN = np.ones(reward_GxN.shape, bool) if group.valid_GxN is None else np.asarray(group.valid_GxN) > 0
    for name in ("reward_GxN", "kl_GxN"):
        values: Any = vars(group)[name]
        bad = np.argwhere(valid_GxN & ~np.isfinite(values if values is not None else 0.0))
        if len(bad):
            g, n = bad[0]
            raise UserError(
                f"group: {name}[{g}, {n}] is {np.asarray(values)[g, n]}, and {len(bad)} of {valid_GxN.sum()} valid "
                "samples are not finite; a sample without a number has valid_GxN 0"
            )
    for column, names in (("mode_GxN", "mode_names"), ("class_G", "class_names")):
        values, known = vars(group)[column], vars(group)[names]
        if values is not None and (np.max(values) >= len(known) or np.min(values) < -1):
            raise UserError(
                f"group: {column} is in [{np.min(values)}, {np.max(values)}]; wanted an index into {names} "
                f"({', '.join(known) or 'empty'}), or -1 for none"
            )
