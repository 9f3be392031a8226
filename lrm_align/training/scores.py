"""Resolves the scores that an objective needs with as few forward passes as possible."""

from typing import Any

import jax

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.models import Model, sequence_scores

POLICY = frozenset({"logp", "entropy"})
DIVERGENCES = frozenset({"kl_forward", "kl_reverse"})
REFERENCE_LOGP = "reference.logp"
KNOWN = POLICY | DIVERGENCES | {REFERENCE_LOGP}


def check_needs(needs: frozenset[str]) -> None:
    """Refuses an objective that asks for a score nobody computes.

    Raises:
      UserError: with the names that exist.
    """
    unknown = sorted(needs - KNOWN)
    if unknown:
        raise UserError(f"the objective needs the scores {', '.join(unknown)}; there are {', '.join(sorted(KNOWN))}")


def needs_reference(needs: frozenset[str], batch: Batch | None = None) -> bool:
    """Whether the reference model must be run: a precomputed column saves the pass for `reference.logp` alone."""
    precomputed = batch is not None and batch.ref_logp_BxT is not None
    return bool(needs & DIVERGENCES) or (REFERENCE_LOGP in needs and not precomputed)


def batch_scores(
    model: Model,
    params: Any,
    reference: Any | None,
    batch: Batch,
    needs: frozenset[str],
    chunk: int | None = 512,
    temperature: float = 1.0,
) -> dict[str, jax.Array]:
    """{name: BxT} for exactly the scores asked for; no gradient flows into those of the reference.

    Args:
      model: static.
      params: of the policy.
      reference: parameters of the reference, used only where `needs_reference` says so.
      batch: rows.
      needs: names out of `KNOWN`.
      chunk: positions whose logits are in memory at a time; None keeps all.
      temperature: of sampling; divides the logits.
    """
    layout = (batch.tokens_BxT, batch.segment_ids_BxT, batch.positions_BxT)
    options: dict[str, Any] = {"chunk": chunk, "temperature": temperature, "rules": model.rules}
    options["vocab_size"] = model.config.vocab_size
    rows = (batch.tokens_BxT, batch.segment_ids_BxT)
    scores: dict[str, jax.Array] = {}
    pair = None
    if needs_reference(needs, batch):
        if reference is None:
            raise ValueError(f"{sorted(needs)} need the reference's parameters, which were not kept")
        reference = jax.lax.stop_gradient(reference)
        pair = (model.hidden(reference, *layout), model.head(reference))
    if REFERENCE_LOGP in needs:
        reference_logp: Any = batch.ref_logp_BxT
        if reference_logp is None and pair is not None:
            reference_logp = sequence_scores(*pair, *rows, needs=("logp",), **options)["logp"]
        scores[REFERENCE_LOGP] = jax.lax.stop_gradient(reference_logp)
    own = needs & (POLICY | DIVERGENCES)
    if own:
        hidden = model.hidden(params, *layout)
        divergent = pair if needs & DIVERGENCES else None
        scores |= sequence_scores(hidden, model.head(params), *rows, needs=own, reference=divergent, **options)
    return scores
