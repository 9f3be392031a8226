"""An advantage of one's own: of two answers that earn the same, the shorter one is better."""

from lrm_align.advantages import Transform, chain, clip, group_center, group_scale


def shorter(weight: float) -> Transform:
    """R - weight · length / the longest length of the group."""

    def transform(advantage_GxN, group):
        length_GxN = group.length_GxN
        return advantage_GxN - weight * length_GxN / length_GxN.max(axis=1, keepdims=True)

    return transform


def advantage(weight: float = 0.1, limit: float = 5.0) -> Transform:
    """GRPO's on that, bounded."""
    return chain(shorter(weight), group_center(), group_scale(), clip(limit))
