"""Policy gradients composed of pieces: GRPO, its relatives, and what lies between them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives.aggregates import AGGREGATES, Aggregate, Layout
from lrm_align.objectives.corrections import CORRECTIONS, Correction
from lrm_align.objectives.histogram import histogram
from lrm_align.objectives.kl import ESTIMATORS, above_tangent, kl_estimate, warn_of_k1
from lrm_align.objectives.masks import MASKS, Mask
from lrm_align.objectives.objective import Metrics, Normalizers, Objective, Scores, divided, masked_sum
from lrm_align.objectives.pieces import check_number, check_tokens, piece
from lrm_align.objectives.ratios import RATIOS, Ratio
from lrm_align.objectives.segments import num_segments
from lrm_align.objectives.surrogates import SURROGATES, Seen, Surrogate
from lrm_align.objectives.tokens import LARGEST_LOG, Tokens, exp, trained_tokens

WATCHABLE = ("kl", "entropy")
Term = Callable[[Tokens, Normalizers], tuple[jax.Array, Seen]]  # a loss of tokens, and what to report of them


def policy_gradient(
    ratio: str | Ratio = "token",
    surrogate: str | tuple | Surrogate = "clip",
    aggregate: str | tuple | Aggregate = "token_mean",
    *,
    kl: str = "k3",
    kl_weight: float = 0.0,
    correction: str | tuple | Correction = "none",
    masks: Sequence[str | tuple | Mask] = (),
    entropy_weight: float = 0.0,
    watch: Sequence[str] = (),
) -> Objective:
    """L = aggregate_t( ω_t·keep_t·l_t + β·KL_t - c·H_t ) with l_t the surrogate of the ratio r_t and the advantage A_t.

    Every piece is a name ("clip"), a name with its arguments (("clip", 0.2, 0.28)) or a value that a factory or a fork
    made: a surrogate is any function from `Tokens` to loss_BxT, or to (loss_BxT, {metric: BxT}). The pieces are chosen
    here, once; the loss itself has no switches. It works on packed rows. Where the advantage is 0 the surrogate adds
    nothing, and a trace without trained tokens counts nowhere; log-ratios are cut at 20 from above before any
    exponential.

    Args:
      ratio: "token", "sequence", "trajectory" (see `ratios`), of p to the old policy: `old_logp_BxT` of the batch, or
        without it the policy itself as a constant, so that the ratio is 1 and clipping inert.
      surrogate: "clip", "dual_clip", "cispo", "cispo_two_sided", "sapo", "plain", "reinforce", "gmpo", "vespo" (see
        `surrogates`).
      aggregate: "token_mean" over the global batch, "sequence_mean" of token means, "sequence_sum", ("constant", L)
        (see `aggregates`). It holds for all three terms; TRL averages the entropy over tokens whatever the loss.
      kl: estimator of the KL to the reference, see `kl_estimate`. KL in the reward belongs to the advantages.
      kl_weight: β; at 0 no reference is needed.
      correction: "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_filter" (see
        `corrections`); it needs `sampler_logp_BxT`.
      masks: "truncated", ("off_policy_sequence", threshold), ("top_entropy", share) (see `masks`). What tools wrote is
        outside of the batch's loss mask already.
      entropy_weight: c; its gradient goes through the entropy of the whole vocabulary.
      watch: "kl", "entropy": report them without training on them, at the cost of their scores.

    Returns:
      The objective, with the metrics `nll`, `advantage/mean`, `ratio/mean`, `ratio/histogram` (of log r), `kl/old`
      (r - 1 - log r, per token), the surrogate's `clip/low`, `clip/high`, and where they are computed
      `correction/weight`, `correction/masked`, `mask/kept`, `kl/reference`, `entropy`. In use it raises a `UserError`
      for a batch that lacks a column which an option needs.

    Raises:
      UserError: an unknown piece, wrong arguments, a weight that is negative or not finite.

    >>> import numpy as np
    >>> ones = np.ones((1, 3), np.int32)
    >>> batch = Batch(ones, ones, ones, np.float32([[0, 1, 1]]), advantage_BxT=np.float32([[0, 2, 2]]))
    >>> batch = batch.replace(old_logp_BxT=np.log(np.float32([[1, 0.5, 0.4]])))
    >>> objective = policy_gradient(surrogate=("clip", 0.2, 0.3))
    >>> scores = {"logp": np.log(np.float32([[1, 0.5, 0.8]]))}
    >>> loss, metrics = objective.loss(scores, batch, objective.normalizers(batch))
    >>> round(float(loss), 4), [float(x) for x in metrics["clip/high"]]
    (-2.3, [1.0, 2.0])
    """
    level: Ratio = piece("policy_gradient: ratio", RATIOS, ratio)
    chosen: Surrogate = piece("policy_gradient: surrogate", SURROGATES, surrogate)
    total: Aggregate = piece("policy_gradient: aggregate", AGGREGATES, aggregate)
    weight: Correction | None = piece("policy_gradient: correction", CORRECTIONS, correction)
    if isinstance(masks, str):
        raise UserError(f"policy_gradient: masks is {masks!r}; a sequence such as [{masks!r}] would be right")
    left_out: list[Mask] = [piece("policy_gradient: mask", MASKS, mask) for mask in masks]
    if kl not in ESTIMATORS:
        raise UserError(f"policy_gradient: kl is {kl!r}; supported are {', '.join(ESTIMATORS)}")
    check_number("policy_gradient", "kl_weight", kl_weight, 0.0)
    check_number("policy_gradient", "entropy_weight", entropy_weight, 0.0)
    for name in watch:
        if name not in WATCHABLE:
            raise UserError(f"policy_gradient: watch has {name!r}; supported are {', '.join(WATCHABLE)}")
    if kl_weight:
        warn_of_k1(kl)

    keeps = [mask.keep for mask in left_out if mask.keep is not None]
    terms: list[Term] = [_surrogate_term(chosen, [*_corrected(weight), *_kept(keeps)])]
    needs = frozenset({"logp"}).union(*(mask.needs for mask in left_out))
    if kl_weight or "kl" in watch:
        needs |= {"reference.logp"}
        terms.append(_kl_term(kl, kl_weight))
    if entropy_weight:
        terms.append(_entropy_term(entropy_weight))
    if entropy_weight or "entropy" in watch:
        needs |= {"entropy"}
    columns: list[tuple[tuple[str, ...], str]] = [(("advantage_BxT",), "policy_gradient")]
    if weight is not None:
        columns.append((("sampler_logp_BxT",), f"policy_gradient: correction {_shown(correction)}"))
    for mask, given in zip(left_out, masks):
        columns += [(wanted, f"policy_gradient: mask {_shown(given)}") for wanted in mask.columns]

    def layout(batch: Batch) -> Layout:
        mask_BxT = jnp.asarray(batch.loss_mask_BxT)
        for mask in left_out:
            if mask.trained is not None:
                mask_BxT = jnp.where(mask.trained(batch) > 0, mask_BxT, 0.0)
        return mask_BxT, jnp.asarray(batch.segment_ids_BxT), num_segments(batch)

    def normalizers(batch: Batch) -> Normalizers:
        for wanted, option in columns:
            _check_columns(batch, wanted, option)
        return {"total": total.total(layout(batch))}

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        rows = layout(batch)
        tokens = trained_tokens(scores, batch, rows[0])
        tokens = tokens._replace(log_ratio_BxT=level(tokens))
        losses, reports = zip(*(term(tokens, normalizers) for term in terms))
        seen = _merged(_always(tokens), *reports)
        value = divided(masked_sum(rows[0], total.weight(rows) * sum(losses)), normalizers["total"])
        return value, _metrics(tokens, seen)

    def batch_statistics(scores: Scores, batch: Batch) -> Normalizers:
        batch = batch.replace(loss_mask_BxT=layout(batch)[0])
        return _merged(*(mask.statistics(scores, batch) for mask in left_out if mask.statistics is not None))

    asked = any(mask.statistics is not None for mask in left_out)
    return Objective(needs, normalizers, loss, batch_statistics if asked else None)


def _surrogate_term(surrogate: Surrogate, factors: Sequence[Term]) -> Term:
    """The surrogate times the factors that weigh its tokens."""

    def term(tokens: Tokens, normalizers: Normalizers) -> tuple[jax.Array, Seen]:
        given = surrogate(tokens)
        # A surrogate that reports nothing may return its loss alone.
        loss_BxT, seen = given if isinstance(given, tuple) else (given, {})
        check_tokens("policy_gradient: the surrogate", surrogate, loss_BxT, tokens.mask_BxT.shape)
        for factor in factors:
            factor_BxT, found = factor(tokens, normalizers)
            loss_BxT = loss_BxT * factor_BxT
            seen = seen | found
        return loss_BxT, seen

    return term


def _corrected(correction: Correction | None) -> list[Term]:
    """None, or the one factor of a correction."""
    if correction is None:
        return []

    def factor(tokens: Tokens, normalizers: Normalizers) -> tuple[jax.Array, Seen]:
        weight_BxT = jax.lax.stop_gradient(correction(tokens))
        check_tokens("policy_gradient: the correction", correction, weight_BxT, tokens.mask_BxT.shape)
        return weight_BxT, {"correction/weight": weight_BxT, "correction/masked": weight_BxT == 0}

    return [factor]


def _kept(keeps: Sequence[Callable[[Tokens, Normalizers], jax.Array]]) -> list[Term]:
    """None, or the one factor of all masks."""
    if not keeps:
        return []

    def factor(tokens: Tokens, normalizers: Normalizers) -> tuple[jax.Array, Seen]:
        kept_BxT = jnp.ones_like(tokens.logp_BxT)
        for keep in keeps:
            kept_BxT *= jax.lax.stop_gradient(keep(tokens, normalizers))
        return kept_BxT, {"mask/kept": kept_BxT}

    return [factor]


def _kl_term(name: str, weight: float) -> Term:
    def term(tokens: Tokens, normalizers: Normalizers) -> tuple[jax.Array, Seen]:
        estimate_BxT = kl_estimate(name, tokens.logp_BxT, tokens.ref_logp_BxT, tokens.old_logp_BxT)
        return weight * estimate_BxT, {"kl/reference": estimate_BxT}

    return term


def _entropy_term(weight: float) -> Term:
    return lambda tokens, normalizers: (-weight * tokens.entropy_BxT, {})


def _always(tokens: Tokens) -> Seen:
    """What is reported whatever the pieces are."""
    ratio_BxT = exp(tokens.log_ratio_BxT)
    seen = {
        "nll": -tokens.logp_BxT,
        "advantage/mean": tokens.advantage_BxT,
        "ratio/mean": ratio_BxT,
        "kl/old": above_tangent(jnp.minimum(tokens.delta_BxT, LARGEST_LOG)),
    }
    return seen if tokens.entropy_BxT is None else seen | {"entropy": tokens.entropy_BxT}


def _metrics(tokens: Tokens, seen: Seen) -> Metrics:
    """Sums over the trained tokens, and the histogram of the log-ratio."""
    tokens, seen = jax.lax.stop_gradient((tokens._replace(num_segments=0), seen))
    trained = jnp.sum(tokens.mask_BxT, dtype=jnp.float32)
    metrics = {name: (masked_sum(tokens.mask_BxT, values_BxT), trained) for name, values_BxT in seen.items()}
    return metrics | {"ratio/histogram": histogram(tokens.log_ratio_BxT, tokens.mask_BxT)}


def _merged(*parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _check_columns(batch: Batch, wanted: tuple[str, ...], option: str) -> None:
    if all(vars(batch)[column] is None for column in wanted):
        there = ", ".join(name for name, value in vars(batch).items() if value is not None and name != "tag_names")
        raise UserError(f"{option} needs the batch column {' or '.join(wanted)}; the batch has {there}")


def _shown(given: Any) -> str:
    """A piece as its user wrote it."""
    return repr(given) if isinstance(given, str | tuple | list) else "given as a function"
