"""What must not change a model's outputs: packing, padding, scanning, rematerialising, caching."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.models import remat
from tests.families import COMPUTED, greedy, logits, nll_and_gradients, packed_rows, tiny

families = pytest.mark.parametrize("family", COMPUTED)


def assert_trees_close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


@families
def test_packed_segments_are_independent(family):
    model, params = tiny(family)
    tokens, segments, positions = packed_rows(seed=0, rows=3, length=20, vocab=48)
    packed = logits(model, params, tokens, segments, positions)
    # Every trace becomes a row of its own at the same width, so that one more compilation serves all.
    pieces = [(row, segments[row] == s) for row in range(3) for s in range(1, segments[row].max() + 1)]
    alone = np.zeros((len(pieces), 20), np.int32)
    lengths = [int(here.sum()) for _, here in pieces]
    for index, (row, here) in enumerate(pieces):
        alone[index, : lengths[index]] = tokens[row, here]
    unpacked = logits(model, params, alone, (np.arange(20) < np.asarray(lengths)[:, None]).astype(np.int32))
    for index, (row, here) in enumerate(pieces):
        np.testing.assert_allclose(packed[row, here], unpacked[index, : lengths[index]], atol=2e-5)


def test_padding_does_not_leak():
    model, params = tiny("qwen3")
    tokens, segments, positions = packed_rows(seed=1, rows=2, length=20, vocab=48)
    changed = np.where(segments == 0, (tokens + 7) % 48, tokens)
    assert (changed != tokens).any()
    before = logits(model, params, tokens, segments, positions)
    after = logits(model, params, changed, segments, positions)
    np.testing.assert_array_equal(np.asarray(before)[segments > 0], np.asarray(after)[segments > 0])
    assert np.isfinite(before).all()


@families
def test_cached_decoding_is_the_full_forward_pass(family):
    model, params = tiny(family)
    prompts = np.random.default_rng(2).integers(0, 48, (2, 8)).astype(np.int32)
    ids = greedy(model, params, prompts[0], 12)
    full = logits(model, params, ids[None])[0]
    np.testing.assert_array_equal(ids[8:], np.argmax(full[7:-1], axis=-1))


def test_slots_decode_at_their_own_positions():
    model, params = tiny("llama")
    tokens = np.random.default_rng(3).integers(0, 48, (2, 10)).astype(np.int32)
    lengths = np.array([6, 3])
    hidden, k, v = model.prefill(params, tokens[:, :6], lengths)
    cache = jax.tree.map(
        lambda empty, new: empty.at[:, :, :6].set(new), model.init_cache(2, 10), type(model.init_cache(1, 1))(k, v)
    )
    hidden, _ = model.decode(params, cache, tokens[np.arange(2), lengths], lengths)
    full = model.hidden(params, tokens)
    np.testing.assert_allclose(hidden, full[np.arange(2), lengths], atol=2e-5)


def test_scanned_is_looped():
    tokens = np.random.default_rng(4).integers(0, 48, (2, 12)).astype(np.int32)
    model, params = tiny("qwen2")
    loss, gradients = nll_and_gradients(model, params, tokens)
    looped_loss, looped = nll_and_gradients(dataclasses.replace(model, scan=False), params, tokens)
    np.testing.assert_allclose(loss, looped_loss, rtol=1e-5)
    assert_trees_close(gradients, looped, atol=1e-5)


@pytest.mark.slow
def test_remat_policies_agree():
    tokens = np.random.default_rng(5).integers(0, 48, (2, 12)).astype(np.int32)
    model, params = tiny("qwen3")
    expected = nll_and_gradients(model, params, tokens)
    for policy in remat.SAVED:  # Offloading needs a device with its own memory.
        assert_trees_close(
            nll_and_gradients(dataclasses.replace(model, remat=policy), params, tokens), expected, atol=1e-5
        )


def test_bfloat16_is_close_and_keeps_float32_outside():
    tokens = np.random.default_rng(6).integers(0, 48, (2, 12)).astype(np.int32)
    model, params = tiny("qwen3")
    exact = logits(model, params, tokens)
    rounded = logits(dataclasses.replace(model, dtype="bfloat16"), params, tokens)
    assert rounded.dtype == jnp.float32
    error = np.abs(jax.nn.log_softmax(rounded) - jax.nn.log_softmax(exact))
    assert 1e-4 < error.mean() < 0.1


@families
def test_init_has_the_shapes_of_the_config(family):
    model, params = tiny(family)
    fresh = jax.jit(model.init)(jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), fresh, params)
    assert np.unique(fresh["layers"]["q"]).size > 0.9 * fresh["layers"]["q"].size  # No layer repeats another.


@pytest.mark.parametrize("option", ["remat", "attention"])
def test_an_unknown_option_names_the_known(option):
    model, params = tiny("qwen3", **{option: "fast"})
    with pytest.raises(UserError, match=f"model.{option} is 'fast'; supported are"):
        model.hidden(params, np.zeros((1, 4), np.int32))
