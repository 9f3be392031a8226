"""Sampling distributions equal transformers', draws follow them, and nothing depends on how they are computed."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.sampling.distribution import Transform, draw, transformed

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
_transformed = jax.jit(transformed, static_argnames="candidates")
_draw = jax.jit(draw)


def _transform(rows, temperature, top_k, top_p, min_p):
    return Transform(
        np.full(rows, temperature, np.float32),
        np.full(rows, top_k, np.int32),
        np.full(rows, top_p, np.float32),
        np.full(rows, min_p, np.float32),
    )


def _assert_same(found, wanted, what):
    """Equal up to which of several equal tokens stays: torch's sort is not stable."""
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(wanted, axis=1), rtol=1e-6, err_msg=str(what))
    both = np.isfinite(found) & np.isfinite(wanted)
    np.testing.assert_allclose(found[both], wanted[both], rtol=1e-6)


@pytest.mark.parametrize("candidates", [4, 96])
def test_equal_to_transformers_goldens(candidates):
    golden = np.load(GOLDEN / "sampling.npz")
    for number, (temperature, top_k, top_p, min_p) in enumerate(golden["cases"]):
        wanted = golden[f"case_{number}"]
        transform = _transform(len(wanted), temperature, top_k, top_p, min_p)
        found = np.asarray(_transformed(golden["logits"], transform, candidates=candidates))
        _assert_same(found, wanted, number)


def test_equal_to_transformers_live():
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("make_sampling_goldens", GOLDEN / "make_sampling_goldens.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    rng = np.random.default_rng(1)
    for seed in range(20):
        values = maker.logits(seed + 1)
        case = (rng.uniform(0.3, 2), int(rng.integers(0, 99)), rng.uniform(0.05, 1), rng.uniform(0, 0.3))
        wanted = maker.processed(values, case)
        found = np.asarray(_transformed(values, _transform(len(values), *case), candidates=64))
        _assert_same(found, wanted, case)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    top_k=st.integers(0, 40),
    top_p=st.floats(0.03125, 1.0, width=32),
    step=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_number_of_candidates_does_not_matter(seed, top_k, top_p, step):
    """With ties (`step` > 0) and without: candidates and search keep the same tokens."""
    values = 3 * np.random.default_rng(seed).standard_normal((3, 32)).astype(np.float32)
    values = np.round(values / step).astype(np.float32) * step if step else values
    values[0, :10] = -np.inf
    transform = _transform(3, 1.0, top_k, top_p, 0.0)
    few, all_ = (np.asarray(_transformed(values, transform, candidates=c)) for c in (2, 32))
    kept = np.isfinite(few)
    if step and (kept != np.isfinite(all_)).any():
        # Sums in another order: only a token exactly at the target may differ.
        p = np.exp(values - values.max(1, keepdims=True))
        assert (np.abs(kept.sum(1) - np.isfinite(all_).sum(1)) <= 1).all() and p.sum() > 0
    else:
        np.testing.assert_array_equal(few, all_)
    assert kept.any(axis=1).all()


def test_rows_do_not_see_each_other():
    values = np.random.default_rng(2).standard_normal((4, 200)).astype(np.float32)
    transform = Transform(
        np.float32([0, 0.6, 1, 1.5]),
        np.int32([0, 20, 0, 150]),
        np.float32([1, 0.95, 0.9, 1]),
        np.float32([0, 0, 0, 0.01]),
    )
    together = np.asarray(_transformed(values, transform, candidates=64))
    for row in range(4):
        same = Transform(*(np.repeat(array[row], 4) for array in transform))
        alone = np.asarray(_transformed(np.repeat(values[row : row + 1], 4, 0), same, candidates=64))
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("case", [(1.0, 0, 1.0, 0.0), (0.8, 12, 0.9, 0.0), (1.2, 0, 1.0, 0.2)])
def test_draws_follow_the_distribution(case):
    """Frequencies of 20,000 draws over 300 tokens (three blocks), within five standard deviations each."""
    n, V = 20_000, 300
    values = 1.5 * np.random.default_rng(3).standard_normal((1, V)).astype(np.float32)
    values[0, 17] = -np.inf
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(n))
    drawn = _draw(jnp.repeat(values, n, 0), _transform(n, *case), keys)
    token, sampler_logp, model_logp, entropy = map(np.asarray, drawn)
    l = np.asarray(_transformed(values, _transform(1, *case), candidates=64))[0].astype(np.float64)
    p = np.exp(l - l.max()) / np.exp(l - l.max()).sum()
    frequency = np.bincount(token, minlength=V) / n
    assert (frequency[p == 0] == 0).all()
    assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-4).all()
    np.testing.assert_allclose(sampler_logp, np.log(p[token]), atol=2e-5)
    plain = values[0].astype(np.float64)
    np.testing.assert_allclose(model_logp, plain[token] - np.log(np.exp(plain).sum()), atol=2e-5)
    whole = np.exp(plain[plain > -np.inf]) / np.exp(plain).sum()
    np.testing.assert_allclose(entropy, -np.sum(whole * np.log(whole)), atol=2e-5)


def test_temperature_zero_takes_the_first_of_the_likeliest():
    values = np.zeros((2, 10), np.float32)
    values[0, [3, 7]] = 2.0
    keys = jax.random.split(jax.random.key(0), 2)
    token, sampler_logp, model_logp, _ = _draw(values, _transform(2, 0.0, 5, 0.5, 0.1), keys)
    assert token.tolist() == [3, 0]
    assert sampler_logp.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(model_logp[1], np.log(0.1), rtol=1e-6)


def test_the_edges_of_the_uniform_numbers_draw_possible_tokens():
    """A peaked distribution between zero weights: whatever the noise, only possible tokens come out."""
    values = np.full((1, 257), -np.inf, np.float32)
    values[0, [130, 256]] = [0.0, -20.0]
    n = 4096
    keys = jax.random.split(jax.random.key(5), n)
    token, sampler_logp, _, _ = _draw(jnp.repeat(values, n, 0), _transform(n, 1.0, 0, 1.0, 0.0), keys)
    assert set(np.asarray(token).tolist()) <= {130, 256}
    assert np.isfinite(sampler_logp).all()
