"""Preference losses: the chosen answer of a pair against the rejected one."""

import difflib
import functools
import inspect
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import pair_losses
from lrm_align.objectives.objective import Metrics, Normalizers, Objective, Scores
from lrm_align.objectives.pair_losses import LOSSES, Divergence, Entry, Loss, Side
from lrm_align.objectives.pairs import TRAIN_ON, Seats, TrainOn, alike, desensitised, seats
from lrm_align.objectives.segments import segment_sum, spread


def preference(
    loss: str = "sigmoid",
    beta: float = 0.1,
    *,
    label_smoothing: float | None = None,
    gamma: float | None = None,
    tau: float | None = None,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
    ld_alpha: float | None = None,
    sft: float | None = None,
    train_on: str = "answer",
) -> Objective:
    """The mean of a pair loss over the pairs of the global batch, DPO by default.

    L = (1 / P) Σ_pairs ℓ(chosen, rejected) + sft · (-Σ_t log π(y_t) / Σ_t 1), the latter over the trained tokens of the
    chosen answers. ℓ is a function of r = Σ_t (log π(y_t|x) - log π_ref(y_t|x)) of the two answers; for "sigmoid" it is
    -log σ(β (r_chosen - r_rejected)), which is log 2 before the first step. Every loss's equation stands in
    `pair_losses`. Values and gradients equal those of TRL 1.16 for the losses that it has, under these names: nca is
    its nca_pair, exo its exo_pair, `sft` the weight of its sft among `loss_weights`, js and alpha its js_divergence and
    alpha_divergence. `label_smoothing` on sigmoid, which it ignores, is an error here: smoothed is a loss of its own.

    A pair counts where both answers have a trained token; P is the number of those, from masks alone. Others, and
    segments without a pair, contribute nothing.

    Metrics, each a mean over pairs: rewards/chosen and rewards/rejected = β r (β r / n for simpo and orpo);
    rewards/margin, their difference; rewards/accuracy, the share of pairs with a positive one; logp/chosen and
    logp/rejected, the summed log-probabilities; and, with an SFT term, `nll` of the chosen tokens.

    Args:
      loss: sigmoid, smoothed, robust, ipo, hinge, apo_zero, apo_down, sigmoid_norm, simpo, sppo_hard, nca, exo,
        discopop or orpo. simpo and orpo need no reference.
      beta: β > 0; the larger, the nearer the policy stays to the reference.
      label_smoothing: ε of smoothed (0.1 unless given), robust (0.1) and exo (1e-3).
      gamma: γ of simpo (0.5).
      tau: τ of discopop (0.05).
      divergence: reverse_kl, forward_kl, js or alpha: what keeps the policy near the reference (f-DPO, Wang et al.
        2023, arXiv 2309.16240); for losses of the scores' difference.
      alpha: of divergence="alpha".
      ld_alpha: weight in [0, 1] of the tokens beyond the shorter answer's length (LD-DPO, arXiv 2409.06411); None: 1.
      sft: weight ≥ 0 of the SFT term (RPO, Pang et al. 2024, arXiv 2404.19733; its per-pair mean is a mean over all
        chosen tokens here, as in TRL); 0 unless given, 1 for orpo.
      train_on: "answer", or "after_divergence": from the first token on in which the two answers differ.

    Raises:
      UserError: an unknown name, a number out of its range, or an option that this loss does not have; in use, a batch
        without `pair_BxS`.

    >>> import numpy as np
    >>> row = np.arange(4)[None]
    >>> batch = Batch(row, np.int32([[1, 1, 2, 2]]), row % 2, np.float32([[0, 1, 0, 1]]), pair_BxS=np.int32([[0, 1]]))
    >>> logp = np.float32([[0, -1, 0, -2]])
    >>> objective = preference("sigmoid", beta=0.1)
    >>> value, metrics = objective.loss({"logp": logp, "reference.logp": logp}, batch, objective.normalizers(batch))
    >>> bool(value == np.log(2).astype(np.float32)), sorted(objective.needs)
    (True, ['logp', 'reference.logp'])
    """
    entry, pair_loss = _named(loss, beta, {"label_smoothing": label_smoothing, "gamma": gamma, "tau": tau})
    score_of = _divergence(loss, divergence, alpha)
    if train_on not in TRAIN_ON:
        raise UserError(f"preference: train_on is {train_on!r}; supported are {', '.join(TRAIN_ON)}")
    if ld_alpha is not None and not 0 <= ld_alpha <= 1:
        raise UserError(f"preference: ld_alpha is {ld_alpha}; it must lie in [0, 1]")
    sft_weight = entry.sft if sft is None else sft
    if not 0 <= sft_weight < math.inf:
        raise UserError(f"preference: sft is {sft_weight}; a weight must be a number from 0 on")
    lay_out = functools.partial(_layout, TRAIN_ON[train_on])
    weigh = alike if ld_alpha is None else desensitised(ld_alpha)
    ratio_of = _to_reference if entry.reference else _to_nothing
    reward_of = _per_token if entry.per_token else _summed

    def normalizers(batch: Batch) -> Normalizers:
        layout = lay_out(batch)
        tokens_BxS = jnp.where(layout.counted_BxS, layout.length_BxS, 0)
        return {"pairs": _count(layout.counted_BxS), "tokens": jnp.sum(tokens_BxS, dtype=jnp.float32)}

    def compared(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        layout = lay_out(batch)
        weight_BxT = weigh(layout.mask_BxT, batch, layout.seats)
        ratio_BxS = _total(ratio_of(scores), weight_BxT, batch, layout)
        chosen, rejected = _sides(ratio_BxS, score_of, layout)
        total = _over(layout.counted_BxS, pair_loss(chosen, rejected)) / _at_least_one(normalizers["pairs"])
        logp_BxS = _total(scores["logp"], weight_BxT, batch, layout)
        return total, _metrics(beta * reward_of(chosen), beta * reward_of(rejected), logp_BxS, layout)

    def with_sft(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        total, metrics = compared(scores, batch, normalizers)
        layout = lay_out(batch)
        nll = _over(layout.counted_BxS, -_total(scores["logp"], layout.mask_BxT, batch, layout))
        tokens = _over(layout.counted_BxS, layout.length_BxS)
        total += sft_weight * nll / _at_least_one(normalizers["tokens"])
        return total, {**metrics, "nll": (nll, tokens)}

    needs = frozenset({"logp", "reference.logp"} if entry.reference else {"logp"})
    return Objective(needs, normalizers, with_sft if sft_weight else compared)


class _Layout(NamedTuple):
    """Who is compared with whom over which tokens.

    Attributes:
      seats: of the pairs.
      mask_BxT: of the trained tokens of the pairs that count; 0 everywhere else.
      length_BxS: trained tokens of each answer.
      counted_BxS: the segment is the chosen answer of a pair of which both answers have a trained token.
    """

    seats: Seats
    mask_BxT: jax.Array
    length_BxS: jax.Array
    counted_BxS: jax.Array


def _layout(trained: TrainOn, batch: Batch) -> _Layout:
    found = seats(batch.pair_BxS)
    mask_BxT = trained(batch, found)
    length_BxS = segment_sum(mask_BxT, batch.segment_ids_BxT, found.chosen_BxS.shape[1])
    both_BxS = found.paired_BxS & (length_BxS > 0) & (found.other(length_BxS) > 0)
    # Scores elsewhere need not be finite: nothing of them may enter a sum, not even one that is thrown away.
    mask_BxT = jnp.where(spread(both_BxS, batch.segment_ids_BxT), mask_BxT, 0.0)
    return _Layout(found, mask_BxT, length_BxS, found.chosen_BxS & both_BxS)


def _total(values_BxT: jax.Array, weight_BxT: jax.Array, batch: Batch, layout: _Layout) -> jax.Array:
    """Weighted sum over each answer; the choice comes first: a score that counts nothing need not be finite."""
    wide = jnp.promote_types(values_BxT.dtype, jnp.float32)
    weighted_BxT = weight_BxT * jnp.where(weight_BxT > 0, values_BxT, 0.0).astype(wide)
    return segment_sum(weighted_BxT, batch.segment_ids_BxT, layout.counted_BxS.shape[1])


def _sides(ratio_BxS: jax.Array, score_of: Divergence, layout: _Layout) -> tuple[Side, Side]:
    score_BxS, length_BxS = score_of(ratio_BxS), jnp.maximum(layout.length_BxS, 1)
    other = layout.seats.other
    return Side(ratio_BxS, score_BxS, length_BxS), Side(other(ratio_BxS), other(score_BxS), other(length_BxS))


def _metrics(chosen_BxS: jax.Array, rejected_BxS: jax.Array, logp_BxS: jax.Array, layout: _Layout) -> Metrics:
    values = {
        "rewards/chosen": chosen_BxS,
        "rewards/rejected": rejected_BxS,
        "rewards/margin": chosen_BxS - rejected_BxS,
        "rewards/accuracy": (chosen_BxS > rejected_BxS).astype(jnp.float32),
        "logp/chosen": logp_BxS,
        "logp/rejected": layout.seats.other(logp_BxS),
    }
    pairs = _count(layout.counted_BxS)
    return {name: (_over(layout.counted_BxS, value_BxS), pairs) for name, value_BxS in values.items()}


def _to_reference(scores: Scores) -> jax.Array:
    return scores["logp"] - scores["reference.logp"]


def _to_nothing(scores: Scores) -> jax.Array:
    return scores["logp"]


def _summed(side: Side) -> jax.Array:
    return side.ratio_BxS


def _per_token(side: Side) -> jax.Array:
    return side.per_token


def _count(flags_BxS: jax.Array) -> jax.Array:
    return jnp.sum(flags_BxS, dtype=jnp.float32)


def _over(flags_BxS: jax.Array, values_BxS: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(flags_BxS, values_BxS, 0.0))


def _at_least_one(count: jax.Array) -> jax.Array:
    return jnp.where(count > 0, count, 1.0)


def _named(loss: str, beta: float, options: dict[str, float | None]) -> tuple[Entry, Loss]:
    """The loss of a name, built with its own numbers."""
    if loss not in LOSSES:
        near = difflib.get_close_matches(loss, LOSSES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"preference: loss is {loss!r}; {hint}supported are {', '.join(LOSSES)}")
    if not isinstance(beta, int | float) or not 0 < beta < math.inf:
        raise UserError(f"preference: beta is {beta!r}; it must be positive (0.1 is the usual one of DPO)")
    build = LOSSES[loss].build
    given = {name: value for name, value in options.items() if value is not None}
    own = [name for name in inspect.signature(build).parameters if name != "beta"]
    if foreign := [name for name in given if name not in own]:
        raise UserError(
            f"preference: loss {loss} has no {', '.join(foreign)}; beside beta it takes {', '.join(own) or 'nothing'}"
        )
    return LOSSES[loss], build(beta, **given)


def _divergence(loss: str, name: str, alpha: float) -> Divergence:
    found = pair_losses.divergence(name, alpha)
    if name != "reverse_kl" and not LOSSES[loss].divergences:
        suited = ", ".join(other for other, entry in LOSSES.items() if entry.divergences)
        raise UserError(f"preference: loss {loss} has no divergence {name}; the losses that have one are {suited}")
    return found
