"""From logits to a token: temperature, top-k, top-p, min-p, the draw, its log-probabilities; parameters per row.

The order is that of transformers (`GenerationMixin._get_logits_processor`): temperature, top-k, top-p, min-p, each on
the distribution that the one before left. vLLM's order is the same, but for its V1 engine, which applies min-p right
after the temperature; the two differ only where min-p meets top-p.

The vocabulary is never sorted: the likeliest `CANDIDATES` tokens decide, and where they are too few a bisection does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

CANDIDATES = 64  # tokens looked at first; a nucleus of 0.95 rarely has more
_BLOCK = 128  # tokens that share a partial sum in the draw: the lanes of a TPU's vector unit


class Transform(NamedTuple):
    """Sampling parameters of each row; see `SamplingParams`."""

    temperature_B: Any
    top_k_B: Any
    top_p_B: Any
    min_p_B: Any


def transformed(logits_BxV: jax.Array, transform: Transform, candidates: int = CANDIDATES) -> jax.Array:
    """The logits of the distribution that is drawn from: tempered, −inf for the tokens left out.

    - top-k: l ≥ the k-th largest; all that tie with it stay (transformers does not break these ties).
    - top-p: in descending order a token stays while the probability of those before it is below top_p; of equal tokens
      the earlier in the vocabulary comes first (in transformers as torch's unstable sort happens to leave them).
    - min-p: p ≥ min_p · max p.

    Rows of temperature 0 come back as they are.

    Args:
      logits_BxV: float32; −inf where a token can't be drawn.
      transform: parameters of each row.
      candidates: tokens looked at before a search through all; the result does not depend on it.

    Source: top-p is Holtzman et al. 2019, arXiv 1904.09751; min-p Nguyen et al. 2024, arXiv 2407.01082.
    """
    V = logits_BxV.shape[1]
    greedy_B = transform.temperature_B == 0
    l_BxV = logits_BxV / jnp.where(greedy_B, 1.0, transform.temperature_B)[:, None]
    # One zero: top_k ranks 0.0 above -0.0, and ties go by the place in the vocabulary.
    l_BxV = jnp.where(l_BxV == 0, 0.0, l_BxV)
    k_B = jnp.where((transform.top_k_B <= 0) | greedy_B, V, jnp.minimum(transform.top_k_B, V))
    p_B = jnp.where(greedy_B, 1.0, transform.top_p_B)
    filtering = jnp.any((k_B < V) | (p_B < 1))
    l_BxV = jax.lax.cond(filtering, lambda x: _truncated(x, k_B, p_B, min(candidates, V)), lambda x: x, l_BxV)
    ratio_BxV = jnp.exp(l_BxV - jnp.max(l_BxV, axis=1, keepdims=True))
    floor_B = jnp.where(greedy_B, 0.0, transform.min_p_B)
    return jnp.where(ratio_BxV < floor_B[:, None], -jnp.inf, l_BxV)


def _truncated(l_BxV: jax.Array, k_B: jax.Array, p_B: jax.Array, candidates: int) -> jax.Array:
    """Top-k and top-p. A row's result never depends on whether another row needed the search."""
    V = l_BxV.shape[1]
    value_B, index_B, short_B = _from_candidates(l_BxV, k_B, p_B, candidates)

    def searched(_):
        found_value_B, found_index_B = _from_search(l_BxV, k_B, p_B)
        return jnp.where(short_B, found_value_B, value_B), jnp.where(short_B, found_index_B, index_B)

    if candidates < V:
        value_B, index_B = jax.lax.cond(jnp.any(short_B), searched, lambda _: (value_B, index_B), None)
    after_BxV = (l_BxV == value_B[:, None]) & (jnp.arange(V) > index_B[:, None])
    return jnp.where((l_BxV < value_B[:, None]) | after_BxV, -jnp.inf, l_BxV)


def _from_candidates(l_BxV, k_B, p_B, candidates: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logit and index of the least token that stays, and whether the candidates were too few to tell."""
    V = l_BxV.shape[1]
    l_BxC, index_BxC = jax.lax.top_k(l_BxV, candidates)
    kth_B = jnp.take_along_axis(l_BxC, jnp.clip(k_B[:, None] - 1, 0, candidates - 1), 1)[:, 0]
    kth_B = jnp.where(k_B < V, kth_B, -jnp.inf)
    stays_BxV = l_BxV >= kth_B[:, None]
    top_Bx1 = jnp.max(l_BxV, axis=1, keepdims=True)  # not l_BxC[:, :1]: XLA would fuse the slice, and sort it all
    weight_BxC = jnp.where(l_BxC >= kth_B[:, None], jnp.exp(l_BxC - top_Bx1), 0.0)
    before_BxC = jnp.cumsum(weight_BxC, axis=1) - weight_BxC
    target_B = p_B * jnp.sum(jnp.where(stays_BxV, jnp.exp(l_BxV - top_Bx1), 0.0), axis=1)
    nucleus_B = jnp.sum((before_BxC < target_B[:, None]) & (weight_BxC > 0), axis=1)
    last_Bx1 = jnp.maximum(nucleus_B - 1, 0)[:, None]
    value_B = jnp.where(p_B < 1, jnp.take_along_axis(l_BxC, last_Bx1, 1)[:, 0], kth_B)
    index_B = jnp.where(p_B < 1, jnp.take_along_axis(index_BxC, last_Bx1, 1)[:, 0], V - 1)
    short_B = (k_B < V) & (k_B > candidates)
    short_B |= (p_B < 1) & (nucleus_B == candidates) & (jnp.sum(stays_BxV, axis=1) > candidates)
    return value_B, index_B, short_B & (candidates < V)


def _from_search(l_BxV: jax.Array, k_B: jax.Array, p_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logit and index of the least token that stays, by bisection over the bits of the logits: 80 sums, no sort."""
    V = l_BxV.shape[1]
    order_BxV = _ordered(l_BxV)
    kth_B = _least(lambda v_B: jnp.sum(order_BxV > v_B[:, None], axis=1) < k_B, k_B)
    stays_BxV = order_BxV >= kth_B[:, None]
    weight_BxV = jnp.where(stays_BxV, jnp.exp(l_BxV - jnp.max(l_BxV, axis=1, keepdims=True)), 0.0)
    target_B = p_B * jnp.sum(weight_BxV, axis=1)

    def above(v_B):
        return jnp.sum(jnp.where(order_BxV > v_B[:, None], weight_BxV, 0.0), axis=1)

    pth_B = jnp.where(p_B < 1, _least(lambda v_B: above(v_B) < target_B, k_B), kth_B)
    last_B = jnp.maximum(kth_B, pth_B)
    ties_BxV = order_BxV == last_B[:, None]
    weight_B = jnp.max(jnp.where(ties_BxV, weight_BxV, 0.0), axis=1)
    # Of equal tokens, as many as begin below the target stay, from the beginning of the vocabulary.
    wanted_B = jnp.ceil((target_B - above(last_B)) / jnp.maximum(weight_B, jnp.finfo(jnp.float32).tiny))
    wanted_B = jnp.where(p_B < 1, jnp.maximum(wanted_B, 1), V)
    places_V = jnp.arange(V)
    index_B = _least(lambda i_B: jnp.sum(ties_BxV & (places_V <= i_B[:, None]), axis=1) >= wanted_B, k_B)
    value_B = jnp.max(jnp.where(ties_BxV, l_BxV, -jnp.inf), axis=1)
    return value_B, jnp.minimum(index_B, V - 1)


def _ordered(x: jax.Array) -> jax.Array:
    """Integers in the order of float32 numbers; both zeros are one."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def _least(holds: Callable[[jax.Array], jax.Array], like_B: jax.Array) -> jax.Array:
    """The least int32 of each row for which a condition holds that, once true, stays true upwards."""
    low_B = jnp.full(like_B.shape, jnp.iinfo(jnp.int32).min)
    high_B = jnp.full(like_B.shape, jnp.iinfo(jnp.int32).max)

    def halve(_, bounds):
        low_B, high_B = bounds
        middle_B = (low_B >> 1) + (high_B >> 1) + (low_B & high_B & 1)
        true_B = holds(middle_B)
        return jnp.where(true_B, low_B, middle_B + 1), jnp.where(true_B, middle_B, high_B)

    return jax.lax.fori_loop(0, 32, halve, (low_B, high_B))[1]


def draw(
    logits_BxV: jax.Array, transform: Transform, keys_B: jax.Array, candidates: int = CANDIDATES
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws a token a row.

    By inverting the cumulative distribution in two levels (a block of the vocabulary, then a token in it), with a
    uniform number of its own for each: two random numbers a row instead of a vocabulary of Gumbel noise.

    Args:
      logits_BxV: float32; −inf where a token can't be drawn.
      transform: parameters of each row; temperature 0 takes the first of the likeliest tokens.
      keys_B: a PRNG key for each row.
      candidates: see `transformed`.

    Returns:
      token_B int32; sampler_logp_B under the distribution that was drawn from (0 at temperature 0); model_logp_B under
      the logits as given, and their entropy_B in nats.
    """
    V = logits_BxV.shape[1]
    l_BxV = transformed(logits_BxV, transform, candidates)
    top_B = jnp.max(l_BxV, axis=1)
    weight_BxV = jnp.exp(l_BxV - top_B[:, None])
    weight_BxWxC = jnp.pad(weight_BxV, ((0, 0), (0, -V % _BLOCK))).reshape(l_BxV.shape[0], -1, _BLOCK)
    block_BxW = jnp.sum(weight_BxWxC, axis=2)
    uniform_Bx2 = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys_B)
    block_B, total_B = _invert(block_BxW, uniform_Bx2[:, 0])
    chosen_BxC = jnp.take_along_axis(weight_BxWxC, block_B[:, None, None], 1)[:, 0]
    token_B = block_B * _BLOCK + _invert(chosen_BxC, uniform_Bx2[:, 1])[0]
    greedy_B = transform.temperature_B == 0
    # The first of the largest; jnp.argmax would take five times as long on a CPU.
    largest_BxV = logits_BxV == jnp.max(logits_BxV, axis=1, keepdims=True)
    likeliest_B = jnp.min(jnp.where(largest_BxV, jnp.arange(V), V - 1), axis=1)
    token_B = jnp.where(greedy_B, likeliest_B, token_B).astype(jnp.int32)

    def at_token(values_BxV):
        return jnp.take_along_axis(values_BxV, token_B[:, None], 1)[:, 0]

    sampler_logp_B = jnp.where(greedy_B, 0.0, at_token(l_BxV) - top_B - jnp.log(total_B))
    logp_BxV = jax.nn.log_softmax(logits_BxV, axis=1)
    possible_BxV = logits_BxV > -jnp.inf
    entropy_B = -jnp.sum(jnp.where(possible_BxV, jnp.exp(logp_BxV) * logp_BxV, 0.0), axis=1)
    return token_B, sampler_logp_B, at_token(logp_BxV), entropy_B


def _invert(weight_BxC: jax.Array, uniform_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first index whose cumulative weight exceeds uniform · total, and the total; never one of weight zero."""
    cumulative_BxC = jnp.cumsum(weight_BxC, axis=1)
    total_B = cumulative_BxC[:, -1]
    # Parallel sums need not be monotonic to the last bit: an index of weight zero could seem to be passed there.
    possible_BxC = weight_BxC > 0
    passed_BxC = possible_BxC & (cumulative_BxC > (uniform_B * total_B)[:, None])
    last_B = weight_BxC.shape[1] - 1 - jnp.argmax(possible_BxC[:, ::-1], axis=1)
    return jnp.where(jnp.any(passed_BxC, axis=1), jnp.argmax(passed_BxC, axis=1), last_B), total_B
