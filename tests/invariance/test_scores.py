"""Every score of tokens against its definition in float64, on every kind of logits; chunks, padding, devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lrm_align.models import token_scores
from lrm_align.models.divergences import DIVERGENCES, distribution, entropy
from lrm_align.models.scores import NAMES
from lrm_align.training import make_mesh
from tests.invariance import logits
from tests.invariance.logits import DRAWS, GAPS, KINDS, TEMPERATURES, VOCAB

PADDED = VOCAB + 4
# The logits are the hidden states: exact, so that what is tested is the score. Padding would be likeliest of all.
HEAD = np.concatenate([np.eye(VOCAB), 3 * np.ones((VOCAB, PADDED - VOCAB))], axis=1).astype(np.float32)
TARGETS = np.random.default_rng(1).integers(0, VOCAB, (len(KINDS) * len(GAPS), DRAWS))
every_score = pytest.mark.parametrize("name", NAMES)
every_kind = pytest.mark.parametrize("kind", KINDS)

DEFINITIONS = {
    "logp": lambda p, r, target: jnp.take_along_axis(p, target[..., None], -1)[..., 0],
    "entropy": lambda p, r, target: -jnp.sum(jnp.exp(p) * p, axis=-1),
    "kl_forward": lambda p, r, target: jnp.sum(jnp.exp(r) * (r - p), axis=-1),
    "kl_reverse": lambda p, r, target: jnp.sum(jnp.exp(p) * (p - r), axis=-1),
}  # of log-probabilities


def with_gradients(scores: Any, hidden: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
    """{score: (value, gradient in the hidden states)}."""
    values, back = jax.vjp(scores, hidden)

    def gradient(name):
        return back({other: (jnp.ones_like if other == name else jnp.zeros_like)(v) for other, v in values.items()})[0]

    return {name: (value, gradient(name)) for name, value in values.items()}


@functools.partial(jax.jit, static_argnames=("chunk", "vocab_size"))
def _found(hidden, reference, head, temperature, chunk, vocab_size):
    def scores(hidden):
        both = (reference, head)
        options = {"chunk": chunk, "vocab_size": vocab_size, "temperature": temperature}
        return token_scores(hidden, head, TARGETS, needs=NAMES, reference=both, **options)

    return with_gradients(scores, hidden)


@jax.jit
def _wanted(hidden, reference, temperature):
    def scores(hidden):
        p, r = (jax.nn.log_softmax(logits / temperature) for logits in (hidden, reference))
        return {name: definition(p, r, TARGETS) for name, definition in DEFINITIONS.items()}

    return with_gradients(scores, hidden)


@functools.cache
def rows() -> tuple[np.ndarray, np.ndarray]:
    """All kinds, one below the other: B x T x V."""
    drawn = logits.drawn()
    return tuple(np.concatenate([drawn[kind][side] for kind in KINDS]) for side in (0, 1))


@functools.cache
def found(temperature: float, chunk: int | None = None, padded: bool = False) -> Any:
    head = HEAD if padded else HEAD[:, :VOCAB]
    return jax.device_get(_found(*rows(), head, temperature, chunk, VOCAB))


@functools.cache
def wanted(temperature: float) -> Any:
    with jax.enable_x64(True):
        wide = (a.astype(np.float64) for a in rows())
        return jax.device_get(_wanted(*wide, np.float64(temperature)))


def of(kind: str, scores: Any, name: str) -> Any:
    """Value and gradient of a score on a kind of logits."""
    at = list(KINDS).index(kind) * len(GAPS)
    return jax.tree.map(lambda a: a[at : at + len(GAPS)], scores[name])


def close(scored: Any, true: Any) -> None:
    """To 1e-5 relative or 1e-6 absolute; an entry of a gradient relative to the largest one of its distribution."""
    largest = np.max(np.abs(true[1]), axis=-1, keepdims=True)
    for a, b, size in zip(scored, true, (true[0], largest)):
        assert np.all(np.abs(a - b) <= np.maximum(1e-6, 1e-5 * np.abs(size)))


@every_kind
@every_score
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_value_and_gradient_are_those_of_float64(kind, name, temperature):
    close(of(kind, found(temperature), name), of(kind, wanted(temperature), name))


def test_single_entries_of_gradients_agree_as_well():
    """But for one in a thousand, of the reverse divergence, that is a difference of larger ones by chance."""
    for name in NAMES:
        gradients = [(found(t)[name][1], wanted(t)[name][1]) for t in TEMPERATURES]
        off = np.mean([np.abs(a - b) > np.maximum(1e-6, 1e-5 * np.abs(b)) for a, b in gradients])
        assert off < (1e-3 if name == "kl_reverse" else 1e-9), name


@every_kind
@every_score
@pytest.mark.parametrize("change", [{"chunk": 5}, {"padded": True}, {"chunk": 5, "padded": True}], ids=str)
def test_chunks_and_padding_change_nothing(kind, name, change):
    for a, b in zip(of(kind, found(0.7, **change), name), of(kind, found(0.7), name)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@functools.cache
def spread() -> Any:
    """The vocabulary over two devices, the rows over four."""
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    place = functools.partial(jax.device_put, device=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    with jax.set_mesh(mesh):
        return jax.device_get(_found(*map(place, rows()), place(HEAD), 0.7, 5, VOCAB))


@every_kind
@every_score
def test_eight_devices_are_one(kind, name):
    for a, b in zip(of(kind, spread(), name), of(kind, found(0.7), name)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


@every_kind
@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_are_never_negative(kind, name):
    assert all((of(kind, found(temperature), name)[0] >= 0).all() for temperature in TEMPERATURES)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_small_divergences_keep_their_digits_in_a_large_vocabulary(name):
    """As at the start of training, where policy and reference are nearly equal and Σ p log(p/r) would be rounding."""
    rng = np.random.default_rng(2)
    reference = 3 * rng.standard_normal(150_000)
    policy, reference = np.float32(reference + 1e-3 * rng.standard_normal(150_000)), np.float32(reference)
    scored = DIVERGENCES[name](distribution(policy), distribution(reference))
    with jax.enable_x64(True):
        p, r = (jax.nn.log_softmax(np.float64(logits)) for logits in (policy, reference))
        true = float(DEFINITIONS[name](p, r, np.zeros((), int)))
    assert 1e-7 < true < 1e-6
    assert float(scored) == pytest.approx(true, rel=1e-3)


@jax.jit
def _one(policy, reference, temperature):
    """Values and gradients of what is no score of a target, in the logits of one distribution."""
    known = {"entropy": lambda p, r: entropy(p), **DIVERGENCES}

    def scores(policy):
        both = (distribution(policy, temperature), distribution(reference, temperature))
        return {name: score(*both) for name, score in known.items()}

    return with_gradients(scores, policy)


@jax.jit
def _one_wanted(policy, reference, temperature):
    def scores(policy):
        p, r = (jax.nn.log_softmax(logits / temperature) for logits in (policy, reference))
        return {name: DEFINITIONS[name](p, r, None) for name in ("entropy", *DIVERGENCES)}

    return with_gradients(scores, policy)


LOGITS = arrays.arrays(np.float32, 6, elements=st.floats(-1e4, 1e4, width=32))


@given(LOGITS, LOGITS, st.sampled_from(TEMPERATURES))
def test_any_logits(policy, reference, temperature):
    scored = jax.device_get(_one(policy, reference, np.float32(temperature)))
    with jax.enable_x64(True):
        true = jax.device_get(_one_wanted(np.float64(policy), np.float64(reference), np.float64(temperature)))
    for name, pair in true.items():
        close(scored[name], pair)
