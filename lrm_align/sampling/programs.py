"""The three compiled programs of the engine: read prompts, copy their keys and values into slots, decode.

Each is compiled once for a shape (reading: once for a bucket). All that concerns single slots comes in as small arrays,
so that a new request never compiles anything.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_align.models import Model, partition
from lrm_align.models.cache import Cache, LayerCaches
from lrm_align.models.decoder import head_logits
from lrm_align.sampling.distribution import Transform, draw

UNUSED = -2  # fills up lists of ids; equal to no token
ANY = -1  # in a stop string: the string is shorter than the array

RUNNING, STOP, LENGTH, BOUNDARY, STRING, COUNT = range(6)

AnyCache = Cache | LayerCaches
_CACHE_AXES = (None, "batch", None, "kv_heads", None)


class Slots(NamedTuple):
    """What the device must know of each slot.

    `token_B` is the last token of the slot's text, not yet in the cache, and `position_B` its position. A sampled token
    at the end of one of `strings_BxPxW` (right-aligned) or out of `boundary_BxA` stops the slot, as does one that
    leaves at most `pause_B` to go. `prompt_B` (a hash), `sample_B` and `draws_B` choose the noise of a token.
    """

    token_B: Any
    position_B: Any
    remaining_B: Any
    pause_B: Any
    draws_B: Any
    running_B: Any
    prompt_B: Any
    sample_B: Any
    transform: Transform
    recent_BxW: Any
    boundary_BxA: Any
    strings_BxPxW: Any


class Decoded(NamedTuple):
    """What a call brought: S token columns of which the first count_B[b] belong to slot b, and why it stopped."""

    tokens_SxB: jax.Array
    sampler_logp_SxB: jax.Array
    model_logp_SxB: jax.Array
    entropy_SxB: jax.Array
    count_B: jax.Array
    reason_B: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def new_cache(model: Model, slots: int, length: int) -> AnyCache:
    """An empty cache, split over the mesh in context."""
    return _constrained(model.init_cache(slots, length))


@functools.partial(jax.jit, static_argnames="model")
def read_prompts(model: Model, params: Any, tokens_BxT: jax.Array, lengths_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values LxBxTxKxH of prompts padded on the right; positions beyond a prompt are never looked at."""
    _, k, v = model.prefill(params, tokens_BxT, lengths_B)
    return k, v


@functools.partial(jax.jit, donate_argnums=0)
def insert(
    cache: AnyCache, k_LxBxTxKxH: jax.Array, v_LxBxTxKxH: jax.Array, rows_W: jax.Array, slots_W: jax.Array
) -> AnyCache:
    """Copies row rows_W[w] into slot slots_W[w]; a slot beyond the last is skipped."""
    k_LxWxTxKxH, v_LxWxTxKxH = (jnp.take(read, rows_W, axis=1) for read in (k_LxBxTxKxH, v_LxBxTxKxH))
    return _constrained(cache.put(k_LxWxTxKxH, v_LxWxTxKxH, slots_W))


@functools.partial(jax.jit, static_argnames=("model", "vocab_size"), donate_argnums=2)
def decode(
    model: Model,
    params: Any,
    cache: AnyCache,
    slots: Slots,
    key: jax.Array,
    forced_SxB: jax.Array,
    stop_ids_A: jax.Array,
    idle: jax.Array,
    steps: jax.Array,
    vocab_size: int,
) -> tuple[AnyCache, Decoded]:
    """Decodes up to `steps` tokens a slot, and returns early when `idle` slots stand still.

    Args:
      model: the model.
      params: its parameters.
      cache: keys and values of the slots; donated.
      slots: the slots.
      key: PRNG key of the run.
      forced_SxB: tokens to take instead of a sampled one; −1 for none.
      stop_ids_A: tokens that end a completion.
      idle: scalar int32.
      steps: scalar int32, at most S.
      vocab_size: rows of the head beyond it are padding.
    """
    S, B = forced_SxB.shape
    keys_B = jax.vmap(lambda prompt, sample: jax.random.fold_in(jax.random.fold_in(key, prompt), sample))(
        slots.prompt_B, slots.sample_B
    )

    def running(state):
        step, _, slots, _ = state
        return (step < steps) & (jnp.sum(~slots.running_B) < idle)

    def body(state):
        step, cache, slots, out = state
        hidden_BxD, cache = model.decode(params, cache, slots.token_B, slots.position_B)
        # Here and not before the loop, which a transposed copy of a tied embedding would be carried through.
        logits_BxV = head_logits(hidden_BxD, model.head(params))
        if vocab_size < logits_BxV.shape[1]:
            logits_BxV = jnp.where(jnp.arange(logits_BxV.shape[1]) < vocab_size, logits_BxV, -jnp.inf)
        step_keys_B = jax.vmap(jax.random.fold_in)(keys_B, slots.draws_B)
        drawn_B, sampler_logp_B, model_logp_B, entropy_B = draw(logits_BxV, slots.transform, step_keys_B)
        forced_B = jax.lax.dynamic_index_in_dim(forced_SxB, step, 0, keepdims=False)
        sampled_B = forced_B < 0
        token_B = jnp.where(slots.running_B, jnp.where(sampled_B, drawn_B, forced_B), slots.token_B)
        moved_B = slots.running_B.astype(jnp.int32)
        recent_BxW = jnp.concatenate([slots.recent_BxW[:, 1:], token_B[:, None]], 1)
        recent_BxW = jnp.where(slots.running_B[:, None], recent_BxW, slots.recent_BxW)
        remaining_B = slots.remaining_B - moved_B
        reason_B = _reason(slots, token_B, recent_BxW, remaining_B, sampled_B, stop_ids_A)
        out = Decoded(
            out.tokens_SxB.at[step].set(token_B),
            out.sampler_logp_SxB.at[step].set(jnp.where(sampled_B, sampler_logp_B, jnp.nan)),
            out.model_logp_SxB.at[step].set(jnp.where(sampled_B, model_logp_B, jnp.nan)),
            out.entropy_SxB.at[step].set(jnp.where(sampled_B, entropy_B, jnp.nan)),
            out.count_B + moved_B,
            jnp.where(slots.running_B, reason_B, out.reason_B),
        )
        slots = slots._replace(
            token_B=token_B,
            position_B=slots.position_B + moved_B,
            remaining_B=remaining_B,
            draws_B=slots.draws_B + moved_B * sampled_B,
            running_B=slots.running_B & (reason_B == RUNNING),
            recent_BxW=recent_BxW,
        )
        return step + 1, _constrained(cache), slots, out

    zeros = jnp.zeros((S, B))
    out = Decoded(zeros.astype(jnp.int32), zeros, zeros, zeros, jnp.zeros(B, jnp.int32), jnp.zeros(B, jnp.int32))
    _, cache, _, out = jax.lax.while_loop(running, body, (jnp.int32(0), cache, slots, out))
    return cache, partition.replicated(out)


def _reason(slots: Slots, token_B, recent_BxW, remaining_B, sampled_B, stop_ids_A) -> jax.Array:
    """Why a slot stops here; an intervention's moment comes before the end, so that it is asked there too."""
    string_BxP = jnp.all((slots.strings_BxPxW == ANY) | (slots.strings_BxPxW == recent_BxW[:, None]), axis=2)
    boundary_B = jnp.any(slots.boundary_BxA == token_B[:, None], axis=1) & sampled_B
    cases = [
        ((remaining_B <= slots.pause_B) & sampled_B, COUNT),
        (jnp.any(string_BxP, axis=1) & sampled_B, STRING),
        (boundary_B, BOUNDARY),
        (jnp.isin(token_B, stop_ids_A) & sampled_B, STOP),
        (remaining_B <= 0, LENGTH),
    ]
    conditions, values = zip(*cases)
    return jnp.select(conditions, [jnp.full_like(token_B, value) for value in values], RUNNING)


def _constrained(cache: AnyCache) -> AnyCache:
    if isinstance(cache, LayerCaches):
        return cache  # never on a mesh
    return Cache(*(partition.constrain(array, _CACHE_AXES) for array in cache))
