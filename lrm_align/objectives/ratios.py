"""The level of the importance ratio: of a token, or of its whole trace."""

from collections.abc import Callable

import jax

from lrm_align.objectives.tokens import Tokens, trace_mean, trace_sum

Ratio = Callable[[Tokens], jax.Array]  # to log_ratio_BxT


def token() -> Ratio:
    """r_t = p(x_t) / p_old(x_t): PPO and GRPO."""
    return lambda tokens: tokens.delta_BxT


def sequence() -> Ratio:
    """r = exp(mean_t log p(x_t) / p_old(x_t)), equal for all tokens of a trace: GSPO (arXiv 2507.18071, equation 7).

    With a trace's advantage on all its tokens it has the loss and the gradient of GSPO-token, too (verl `gspo`).
    """
    return lambda tokens: trace_mean(tokens.delta_BxT, tokens)


def trajectory() -> Ratio:
    """r = Π_t p(x_t) / p_old(x_t), the true ratio of a whole trace: TRL's RLOO. It grows with the length."""
    return lambda tokens: trace_sum(tokens.delta_BxT, tokens)


RATIOS: dict[str, Callable[..., Ratio]] = {"token": token, "sequence": sequence, "trajectory": trajectory}
