"""A small decoder for looking at an organism while it is pretrained: fixed batches, plain temperature sampling.

The real sampler is `lrm_align.sampling`; this one has no dependency on it, so that the checkpoint can be rebuilt with
nothing but the model.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from lrm_align.models import Model
from lrm_align.models.decoder import head_logits

SLOTS = 128
PROMPT_LENGTH = 112


@functools.partial(jax.jit, static_argnames=("model", "new_tokens", "temperature", "words", "stops"))
def _decode(model: Model, params, tokens_BxT, lengths_B, key, new_tokens, temperature, words, stops):
    B, T = tokens_BxT.shape
    hidden, k, v = model.prefill(params, tokens_BxT, lengths_B)
    cache = model.init_cache(B, T + new_tokens).put(k, v, jnp.arange(B))
    last_BxD = jnp.take_along_axis(hidden, (lengths_B - 1)[:, None, None], 1)[:, 0]

    def draw(hidden_BxD, step):
        logits = head_logits(hidden_BxD, model.head(params))
        logits = jnp.where(jnp.arange(logits.shape[-1]) < words, logits, -jnp.inf)
        noise = jax.random.gumbel(jax.random.fold_in(key, step), logits.shape)
        return jnp.argmax(logits / temperature + noise if temperature else logits, -1)

    def body(state):
        step, hidden, cache, out, done = state
        token_B = jnp.where(done, stops[0], draw(hidden, step)).astype(jnp.int32)
        out = out.at[:, step].set(token_B)
        done = done | jnp.isin(token_B, jnp.array(stops))
        hidden, cache = model.decode(params, cache, token_B, lengths_B + step)
        return step + 1, hidden, cache, out, done

    state = (jnp.int32(0), last_BxD, cache, jnp.full((B, new_tokens), stops[0], jnp.int32), jnp.zeros(B, bool))
    return jax.lax.while_loop(lambda s: (s[0] < new_tokens) & ~s[4].all(), body, state)[3]


def sample(
    model: Model,
    params,
    tokenizer: tokenizers.Tokenizer,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    new_tokens: int = 112,
    temperature: float = 0.6,
) -> list[str]:
    """One completion for each rendered prompt, without its end-of-turn token; a completion that did not end is whole.

    Args:
      model: the organism.
      params: its parameters.
      tokenizer: the lab's.
      prompts: rendered chats that end where the assistant begins.
      seed: of the sampling noise.
      new_tokens: limit a completion.
      temperature: 0 is greedy.

    Returns:
      texts; an unfinished one is as long as the limit and lacks its `</think>` or its ending.
    """
    stops = tuple(tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>"))
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(prompts), add_special_tokens=False)]
    longest = max(len(prompt) for prompt in ids)
    length = PROMPT_LENGTH if longest <= PROMPT_LENGTH else longest
    out: list[str] = []
    for start in range(0, len(ids), SLOTS):
        part = ids[start : start + SLOTS]
        tokens = np.zeros((SLOTS, length), np.int32)
        lengths = np.ones(SLOTS, np.int32)
        for b, prompt in enumerate(part):
            tokens[b, : len(prompt)], lengths[b] = prompt, len(prompt)
        key = jax.random.fold_in(jax.random.key(seed), start)
        words = tokenizer.get_vocab_size()
        drawn = np.asarray(_decode(model, params, tokens, lengths, key, new_tokens, temperature, words, stops))
        for row in drawn[: len(part)].tolist():
            ends = [i for i, token in enumerate(row) if token in stops]
            out.append(tokenizer.decode(row[: ends[0]] if ends else row, skip_special_tokens=False))
    return out
