"""Log-probabilities and their relatives for every loss, in chunks: a batch's logits are never in memory at once."""

from collections.abc import Collection

import jax
import jax.numpy as jnp

from lrm_align.models import partition
from lrm_align.models.decoder import head_logits
from lrm_align.models.divergences import DIVERGENCES, distribution, entropy

NAMES = ("logp", "entropy", *DIVERGENCES)


def token_scores(
    hidden_BxTxD: jax.Array,
    head_DxV: jax.Array,
    targets_BxT: jax.Array,
    *,
    needs: Collection[str] = ("logp",),
    reference: tuple[jax.Array, jax.Array] | None = None,
    temperature: float = 1.0,
    vocab_size: int | None = None,
    chunk: int | None = 512,
    rules: partition.Rules = partition.DEFAULT_RULES,
) -> dict[str, jax.Array]:
    """Scores of targets under softmax(hidden·head / temperature), float32.

    logp = log p(target); entropy = -Σ p log p; kl_forward = Σ r log(r/p); kl_reverse = Σ p log(p/r), with p the policy
    and r the reference, over the whole vocabulary. The logits of `chunk` positions at a time are computed, and computed
    again in the backward pass. On a mesh every device scores all rows of its group on its own part of the vocabulary: a
    chunk's hidden states travel, a hundredth of the head's size, and neither the head nor its gradient is ever whole.

    Args:
      hidden_BxTxD: normed hidden states.
      head_DxV: output matrix.
      targets_BxT: the token each hidden state predicts.
      needs: names out of `NAMES`.
      reference: (hidden_BxTxD, head_DxV) of the reference, for the divergences; no gradient flows into it.
      temperature: divides the logits of both.
      vocab_size: rows of the head beyond it are padding and get no probability.
      chunk: positions of a row scored at a time; None scores all at once and keeps the logits for the backward pass.
      rules: logical axes to mesh axes.

    Returns:
      {name: array_BxT}.

    Raises:
      ValueError: an unknown name, or a divergence without a reference.
    """
    unknown = set(needs) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown scores {sorted(unknown)}; known are {NAMES}")
    divergent = sorted(set(DIVERGENCES) & set(needs))
    if divergent and reference is None:
        raise ValueError(f"{divergent} need a reference")
    if reference is not None:
        reference = jax.lax.stop_gradient(reference)
        reference = (reference[0], partition.constrain(reference[1], (None, "scored_vocab"), rules))
    head_DxV = partition.constrain(head_DxV, (None, "scored_vocab"), rules)  # once, for all chunks

    def over_vocabulary(hidden, head):
        hidden = partition.constrain(hidden, ("scored_rows", None, None), rules)
        logits = partition.constrain(head_logits(hidden, head), ("scored_rows", None, "scored_vocab"), rules)
        return distribution(logits, temperature, vocab_size)

    def score(inputs):
        hidden, targets, ref_hidden = inputs
        policy = over_vocabulary(hidden, head_DxV)
        out = {}
        if "logp" in needs:
            # A masked sum instead of a gather: it stays on the device that holds the target's part of the vocabulary,
            # and its gradient is no scatter.
            chosen = jnp.arange(policy.shifted.shape[-1]) == targets[..., None]
            out["logp"] = jnp.sum(jnp.where(chosen, policy.shifted, 0.0), axis=-1) - policy.log_total[..., 0]
        if "entropy" in needs:
            out["entropy"] = entropy(policy)
        if divergent and reference is not None:
            ref = over_vocabulary(ref_hidden, reference[1])
            out |= {name: DIVERGENCES[name](policy, ref) for name in divergent}
        return out

    inputs = (hidden_BxTxD, targets_BxT, reference[0] if divergent and reference is not None else None)
    T = targets_BxT.shape[1]
    if chunk is None or chunk >= T:
        return score(inputs) if chunk is None else jax.checkpoint(score)(inputs)
    padding = -T % chunk
    pieces = (T + padding) // chunk

    def split(a):
        a = jnp.pad(a, [(0, 0), (0, padding)] + [(0, 0)] * (a.ndim - 2))
        return jnp.moveaxis(a.reshape(a.shape[0], pieces, chunk, *a.shape[2:]), 1, 0)

    def join(a_WxBxC):
        return jnp.moveaxis(a_WxBxC, 0, 1).reshape(a_WxBxC.shape[1], -1)[:, :T]

    scored = jax.lax.map(jax.checkpoint(score), jax.tree.map(split, inputs))
    return jax.tree.map(join, scored)


def sequence_scores(
    hidden_BxTxD: jax.Array, head_DxV: jax.Array, tokens_BxT: jax.Array, segment_ids_BxT: jax.Array, **options
) -> dict[str, jax.Array]:
    """`token_scores` of each token given the earlier tokens of its segment, aligned with the tokens.

    scores[t] belongs to tokens[t] and comes from hidden[t - 1]. A segment's first token has no score and reads 0.
    """
    targets_BxT = jnp.roll(tokens_BxT, -1, axis=1)
    starts = jnp.pad(segment_ids_BxT[:, 1:] != segment_ids_BxT[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    scores = token_scores(hidden_BxTxD, head_DxV, targets_BxT, **options)
    return {name: jnp.where(starts, 0.0, jnp.roll(score, 1, axis=1)) for name, score in scores.items()}
