"""Staying near the reference: divergences over the whole vocabulary."""

from lrm_align.errors import UserError
from lrm_align.objectives.objective import Objective, token_mean

DIRECTIONS = ("forward", "reverse")


def kl_to_reference(direction: str = "forward") -> Objective:
    """Divergence between the policy p and the reference r at every trained token, a mean over the global batch.

    forward: KL(r‖p) = Σ_v r_v · log(r_v / p_v), the policy covers what the reference does (ThinkSafe + KL, arXiv
    2601.23143, section 5.3); reverse: KL(p‖r) = Σ_v p_v · log(p_v / r_v). L = Σ_t m_t · KL_t / Σ_t m_t.

    Both are exact sums over the vocabulary, so their gradients are those of the divergence; an estimate from the
    sampled token alone (k1) would have zero expected gradient as a loss.

    Args:
      direction: "forward" or "reverse".

    Raises:
      UserError: another direction.

    >>> sorted(kl_to_reference("reverse").needs)
    ['kl_reverse']
    """
    if direction not in DIRECTIONS:
        raise UserError(f"kl_to_reference: direction is {direction!r}; supported are {', '.join(DIRECTIONS)}")
    score = f"kl_{direction}"
    return token_mean(score, frozenset({score}), lambda scores: scores[score])
