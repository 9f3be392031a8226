"""Token scores against their definitions, chunked and whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.models import sequence_scores, token_scores

B, T, D, V = 2, 13, 6, 11
NEEDS = ("logp", "entropy", "kl_forward", "kl_reverse")


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    hidden, ref_hidden = rng.standard_normal((2, B, T, D)).astype(np.float32)
    head, ref_head = rng.standard_normal((2, D, V)).astype(np.float32)
    return hidden, head, rng.integers(0, V - 2, (B, T)), (ref_hidden, ref_head)


@functools.partial(jax.jit, static_argnames=("needs", "chunk", "temperature", "vocab_size"))
def scores(hidden, head, targets, reference, **options):
    return token_scores(hidden, head, targets, reference=reference, **options)


def naive(hidden, head, targets, reference, temperature, vocab_size):
    def log_softmax(hidden, head):
        logits = (hidden.astype(np.float64) @ head.astype(np.float64) / temperature)[..., :vocab_size]
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    logp, ref = log_softmax(hidden, head), log_softmax(*reference)
    return {
        "logp": np.take_along_axis(logp, targets[..., None], -1)[..., 0],
        "entropy": -(np.exp(logp) * logp).sum(-1),
        "kl_forward": (np.exp(ref) * (ref - logp)).sum(-1),
        "kl_reverse": (np.exp(logp) * (logp - ref)).sum(-1),
    }


@pytest.mark.parametrize("chunk", [None, 4, 13, 512])
@pytest.mark.parametrize(("temperature", "vocab_size"), [(1.0, V), (0.7, V - 2)])
def test_definitions(arrays, chunk, temperature, vocab_size):
    found = scores(*arrays, needs=NEEDS, chunk=chunk, temperature=temperature, vocab_size=vocab_size)
    for name, expected in naive(*arrays, temperature, vocab_size).items():
        np.testing.assert_allclose(found[name], expected, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("needs", [("logp",), NEEDS])
def test_gradients_in_chunks_are_the_whole_ones(arrays, needs):
    hidden, head, targets, reference = arrays
    weights = np.random.default_rng(1).standard_normal((B, T)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=2)
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(hidden, head, chunk):
        found = token_scores(
            hidden, head, targets, needs=needs, reference=reference, chunk=chunk, vocab_size=V - 2, temperature=0.8
        )
        return sum(jnp.sum(weights * score) for score in found.values())

    whole, chunked = gradient(hidden, head, None), gradient(hidden, head, 5)
    for a, b in zip(chunked, whole):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert np.isfinite(chunked[0]).all()
    np.testing.assert_array_equal(chunked[1][:, V - 2 :], 0.0)  # Padded rows of the vocabulary learn nothing.


def test_no_gradient_reaches_the_reference(arrays):
    hidden, head, targets, reference = arrays
    gradient = jax.grad(lambda r: token_scores(hidden, head, targets, needs=NEEDS, reference=r)["kl_forward"].sum())
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0.0), gradient(reference))


def test_sequence_scores_belong_to_their_tokens(arrays):
    hidden, head, _, _ = arrays
    tokens = np.random.default_rng(2).integers(0, V, (B, T)).astype(np.int32)
    segments = np.array([[1] * 5 + [2] * 6 + [0] * 2, [1] * 13], np.int32)
    found = sequence_scores(hidden, head, tokens, segments, chunk=4)["logp"]
    logp = np.asarray(jax.nn.log_softmax(hidden @ head))
    for b in range(B):
        for t in range(T):
            first = t == 0 or segments[b, t] != segments[b, t - 1]
            expected = 0.0 if first else logp[b, t - 1, tokens[b, t]]
            np.testing.assert_allclose(found[b, t], expected, atol=1e-5)


def test_misuse_is_named(arrays):
    hidden, head, targets, _ = arrays
    with pytest.raises(ValueError, match="unknown scores"):
        token_scores(hidden, head, targets, needs=("logprob",))
    with pytest.raises(ValueError, match="need a reference"):
        token_scores(hidden, head, targets, needs=("kl_forward",))
