"""Losses of one pair of answers, by name, and the divergences that turn log-ratios into scores.

A pair loss is a function of two `Side`s. `LOSSES` says how each is built from its numbers; a new one joins by a line.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.errors import UserError
from lrm_align.objectives.pieces import check_number

BOUND = 20.0  # where an exponential goes on as its tangent: e^20 = 5e8


class Side(NamedTuple):
    """One answer of each pair.

    Attributes:
      ratio_BxS: r = Σ_t w_t (log π(y_t) - log π_ref(y_t)) over the trained tokens; a loss without a reference has
        π_ref = 1 here.
      score_BxS: f'(π/π_ref) of the divergence; r itself for the reverse one.
      length_BxS: n, its trained tokens, at least 1.
    """

    ratio_BxS: jax.Array
    score_BxS: jax.Array
    length_BxS: jax.Array

    @property
    def per_token(self) -> jax.Array:
        """Score per token, BxS."""
        return self.score_BxS / self.length_BxS


Loss = Callable[[Side, Side], jax.Array]  # (chosen, rejected) -> loss_BxS
_log_sigmoid = jax.nn.log_sigmoid


def tangent_exp(x: jax.Array) -> jax.Array:
    """e^x up to `BOUND`, its tangent beyond: finite with a gradient that is never zero and never infinite.

    >>> float(tangent_exp(0.0)), bool(jnp.isfinite(tangent_exp(1e4)))
    (1.0, True)
    """
    near = jnp.minimum(x, BOUND)
    return jnp.exp(near) * (1 + jnp.maximum(x - BOUND, 0))


def sigmoid(beta: float) -> Loss:
    """DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7): -log σ(β (s_c - s_r))."""
    return lambda chosen, rejected: -_log_sigmoid(beta * (chosen.score_BxS - rejected.score_BxS))


def smoothed(beta: float, label_smoothing: float = 0.1) -> Loss:
    """Conservative DPO (Mitchell 2023): -(1 - ε) log σ(β Δ) - ε log σ(-β Δ), Δ = s_c - s_r.

    ε is the probability that a label is wrong; Δ then stops growing where σ(β Δ) = 1 - ε.
    """
    _check_smoothing("smoothed", label_smoothing)

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        margin = beta * (chosen.score_BxS - rejected.score_BxS)
        return -(1 - label_smoothing) * _log_sigmoid(margin) - label_smoothing * _log_sigmoid(-margin)

    return loss


def robust(beta: float, label_smoothing: float = 0.1) -> Loss:
    """Robust DPO (Chowdhury et al. 2024, arXiv 2403.00409): unbiased under labels flipped with probability ε.

    (-(1 - ε) log σ(β Δ) + ε log σ(-β Δ)) / (1 - 2ε); it explodes at ε = 1/2, and may be negative.
    """
    _check_smoothing("robust", label_smoothing)

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        margin = beta * (chosen.score_BxS - rejected.score_BxS)
        clean, flipped = (1 - label_smoothing) * _log_sigmoid(margin), label_smoothing * _log_sigmoid(-margin)
        return (flipped - clean) / (1 - 2 * label_smoothing)

    return loss


def ipo(beta: float) -> Loss:
    """IPO (Azar et al. 2023, arXiv 2310.12036, equation 17): (s_c / n_c - s_r / n_r - 1 / (2β))².

    Per-token means instead of the paper's sums, as in TRL, whose authors had this confirmed; β is the paper's τ.
    """
    return lambda chosen, rejected: (chosen.per_token - rejected.per_token - 1 / (2 * beta)) ** 2


def hinge(beta: float) -> Loss:
    """SLiC's hinge on DPO's margin (Zhao et al. 2023, arXiv 2305.10425): max(0, 1 - β (s_c - s_r))."""
    return lambda chosen, rejected: jax.nn.relu(1 - beta * (chosen.score_BxS - rejected.score_BxS))


def apo_zero(beta: float) -> Loss:
    """APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7): 1 - σ(β r_c) + σ(β r_r).

    Pulls the chosen answer up and the rejected one down, each by itself: for chosen answers better than the model's.
    """
    return lambda chosen, rejected: jax.nn.sigmoid(-beta * chosen.ratio_BxS) + jax.nn.sigmoid(beta * rejected.ratio_BxS)


def apo_down(beta: float) -> Loss:
    """APO-down (arXiv 2408.06266, equation 8): σ(β r_c) + 1 - σ(β (r_c - r_r)).

    Pushes both down, the rejected one further: for a model better than the chosen answers.
    """

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        margin = beta * (chosen.ratio_BxS - rejected.ratio_BxS)
        return jax.nn.sigmoid(beta * chosen.ratio_BxS) + jax.nn.sigmoid(-margin)

    return loss


def sigmoid_norm(beta: float) -> Loss:
    """Length-normalised DPO (Lambert et al. 2024, arXiv 2411.15124): -log σ(β (s_c / n_c - s_r / n_r))."""
    return lambda chosen, rejected: -_log_sigmoid(beta * (chosen.per_token - rejected.per_token))


def simpo(beta: float, gamma: float = 0.5) -> Loss:
    """SimPO (Meng et al. 2024, arXiv 2405.14734, equation 6): -log σ(β (log π_c / n_c - log π_r / n_r) - γ).

    No reference. γ stands in the units of the reward, as in the paper; β is large there, 2 to 10.
    """
    check_number("preference: loss simpo", "gamma", gamma)
    return lambda chosen, rejected: -_log_sigmoid(beta * (chosen.per_token - rejected.per_token) - gamma)


def sppo_hard(beta: float) -> Loss:
    """SPPO with hard labels (Wu et al. 2024, arXiv 2405.00675): (r_c - 1 / (2β))² + (r_r + 1 / (2β))²."""
    return lambda chosen, rejected: (chosen.ratio_BxS - 0.5 / beta) ** 2 + (rejected.ratio_BxS + 0.5 / beta) ** 2


def nca(beta: float) -> Loss:
    """NCA on pairs (Chen et al. 2024, arXiv 2402.05369): -log σ(β r_c) - ½ log σ(-β r_c) - ½ log σ(-β r_r)."""

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        up, down = beta * chosen.ratio_BxS, beta * rejected.ratio_BxS
        return -_log_sigmoid(up) - 0.5 * _log_sigmoid(-up) - 0.5 * _log_sigmoid(-down)

    return loss


def exo(beta: float, label_smoothing: float = 1e-3) -> Loss:
    """EXO on pairs (Ji et al. 2024, arXiv 2402.00856, equation 16): KL of (σ(β Δ), σ(-β Δ)) from (1 - ε, ε)."""
    if not 0 < label_smoothing < 0.5:
        raise UserError(
            f"preference: loss exo has label_smoothing = {label_smoothing}; it must lie above 0 and below 0.5 "
            "(the paper: 1e-3), since log ε stands in the loss"
        )
    right, wrong = math.log1p(-label_smoothing), math.log(label_smoothing)

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        margin = beta * (chosen.score_BxS - rejected.score_BxS)
        win = jax.nn.sigmoid(margin) * (_log_sigmoid(margin) - right)
        return win + jax.nn.sigmoid(-margin) * (_log_sigmoid(-margin) - wrong)

    return loss


def discopop(beta: float, tau: float = 0.05) -> Loss:
    """DiscoPOP (Lu et al. 2024, arXiv 2406.08414, equation 5): -(1 - m) log σ(x) + m e^-x, x = β Δ, m = σ(x / τ)."""
    if not 0 < tau < math.inf:
        raise UserError(f"preference: loss discopop has tau = {tau}; it must be positive (the paper: 0.05)")

    def loss(chosen: Side, rejected: Side) -> jax.Array:
        margin = beta * (chosen.score_BxS - rejected.score_BxS)
        blend = jax.nn.sigmoid(margin / tau)
        return -_log_sigmoid(margin) * (1 - blend) + tangent_exp(-margin) * blend

    return loss


def orpo(beta: float) -> Loss:
    """ORPO's odds-ratio term (Hong et al. 2024, arXiv 2403.07691, equation 6): -β log σ(log odds_c - log odds_r).

    odds = p / (1 - p), p the geometric mean of an answer's token probabilities. No reference; the loss is an addition
    to SFT on the chosen answer, of weight 1 unless `sft` says otherwise, and β is the paper's λ.
    """

    def log_odds(side: Side) -> jax.Array:
        mean = jnp.minimum(side.per_token, -1e-6)  # p = 1 would have infinite odds
        return mean - jnp.log(-jnp.expm1(mean))

    return lambda chosen, rejected: -beta * _log_sigmoid(log_odds(chosen) - log_odds(rejected))


class Entry(NamedTuple):
    """What `preference` has to know of a loss.

    Attributes:
      build: β and the loss's own numbers -> the loss.
      reference: whether log-ratios are to the reference, or plain log-probabilities.
      divergences: whether it is a loss of the scores' difference, for which other divergences are derived.
      per_token: whether its reward is a mean over tokens, or a sum.
      sft: weight of the SFT term unless the caller says otherwise.
    """

    build: Callable[..., Loss]
    reference: bool = True
    divergences: bool = True
    per_token: bool = False
    sft: float = 0.0


LOSSES: dict[str, Entry] = {
    "sigmoid": Entry(sigmoid),
    "smoothed": Entry(smoothed),
    "robust": Entry(robust),
    "ipo": Entry(ipo),
    "hinge": Entry(hinge),
    "apo_zero": Entry(apo_zero, divergences=False),
    "apo_down": Entry(apo_down, divergences=False),
    "sigmoid_norm": Entry(sigmoid_norm),
    "simpo": Entry(simpo, reference=False, divergences=False, per_token=True),
    "sppo_hard": Entry(sppo_hard, divergences=False),
    "nca": Entry(nca, divergences=False),
    "exo": Entry(exo),
    "discopop": Entry(discopop),
    "orpo": Entry(orpo, reference=False, divergences=False, per_token=True, sft=1.0),
}


def reverse_kl(ratio_BxS: jax.Array) -> jax.Array:
    """f'(u) = log u + 1 without the constant: the score is the log-ratio, plain DPO."""
    return ratio_BxS


def forward_kl(ratio_BxS: jax.Array) -> jax.Array:
    """f'(u) = 1 - 1 / u (Wang et al. 2023, arXiv 2309.16240, and a constant that cancels)."""
    return 1 - tangent_exp(-ratio_BxS)


def js(ratio_BxS: jax.Array) -> jax.Array:
    """f'(u) = log(2u / (1 + u)), Jensen-Shannon."""
    return math.log(2) + _log_sigmoid(ratio_BxS)


def alpha_divergence(ratio_BxS: jax.Array, *, alpha: float) -> jax.Array:
    """f'(u) = (u^(α - 1) - 1) / (α - 1); near forward KL for α → 0, the reverse one for α → 1."""
    return (tangent_exp((alpha - 1) * ratio_BxS) - 1) / (alpha - 1)


Divergence = Callable[[jax.Array], jax.Array]
DIVERGENCES: dict[str, Divergence] = {"reverse_kl": reverse_kl, "forward_kl": forward_kl, "js": js}


def divergence(name: str, alpha: float) -> Divergence:
    """The score function of a divergence by name.

    Raises:
      UserError: an unknown name, or an alpha of 1, where reverse_kl is the limit.
    """
    if name == "alpha":
        check_number("preference", "alpha", alpha)
        if abs(alpha - 1) < 1e-6:
            raise UserError("preference: divergence alpha has alpha = 1, whose limit is reverse_kl; name that instead")
        return functools.partial(alpha_divergence, alpha=alpha)
    if name not in DIVERGENCES:
        raise UserError(f"preference: divergence is {name!r}; supported are {', '.join([*DIVERGENCES, 'alpha'])}")
    return DIVERGENCES[name]


def _check_smoothing(loss: str, value: float) -> None:
    if not 0 <= value < 0.5:
        raise UserError(
            f"preference: loss {loss} has label_smoothing = {value}; it must lie in [0, 0.5): at 0.5 a label says "
            "nothing, and robust divides by zero"
        )
