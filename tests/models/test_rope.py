"""Frequencies against the published formula, and what rotation means."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.models import Model, ModelConfig, RopeConfig
from lrm_align.models.rope import angles, frequencies, rotate
from tests.families import FAMILIES, respelled

LLAMA_3_1 = RopeConfig(500_000.0, "llama3", 8.0, 1.0, 4.0, 8192)


def test_llama3_as_meta_wrote_it():
    expected = []
    for f in 500_000.0 ** -(np.arange(0, 128, 2) / 128):
        wavelength = 2 * math.pi / f
        if wavelength < 8192 / 4:
            expected.append(f)
        elif wavelength > 8192:
            expected.append(f / 8)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            expected.append((1 - smooth) * f / 8 + smooth * f)
    np.testing.assert_allclose(frequencies(LLAMA_3_1, 128), expected, rtol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 500))
def test_scores_depend_on_distance_alone(m, n, shift):
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 1, 8)).astype(np.float32)

    def score(i, j):
        turned = [rotate(jnp.asarray(x), *angles(RopeConfig(100.0), 8, jnp.asarray([p]))) for x, p in ((q, i), (k, j))]
        return float(jnp.sum(turned[0] * turned[1]))

    assert abs(score(m, n) - score(m + shift, n + shift)) < 5e-3


def test_angles_stay_in_float32_for_bfloat16_models():
    cos, _ = angles(RopeConfig(100.0), 8, jnp.asarray([256, 257]))
    assert cos.dtype == jnp.float32
    assert cos[0, 0] != cos[1, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_spellings_say_the_same(family):
    config = ModelConfig.from_hf(FAMILIES[family])
    assert ModelConfig.from_hf(respelled(FAMILIES[family])) == config
    assert ModelConfig.from_hf(config.to_hf()) == config
    assert config.rope != dataclasses.replace(config.rope, theta=10_000.0)


def test_contradicting_spellings_are_refused():
    fields = respelled(FAMILIES["qwen3"]) | {"rope_theta": 1.0}
    with pytest.raises(UserError, match=r"rope_theta is .* and in rope_parameters 90"):
        ModelConfig.from_hf(fields)


def test_packed_sequences_under_a_dynamic_rope_are_as_long_as_they_are():
    fields = FAMILIES["llama"] | {"max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    model = Model(ModelConfig.from_hf(fields))
    params = model.init(jax.random.key(0))
    tokens_1xT = np.arange(3, 33, dtype=np.int32)[None]
    ends = (5, 25, 30)
    segment_ids_T = np.repeat([1, 2, 3], [5, 20, 5])
    positions_T = np.concatenate([np.arange(5), np.arange(20), np.arange(5)])
    packed = model.logits(params, tokens_1xT, segment_ids_T[None], positions_T[None])
    for start, end in zip((0, *ends), ends):
        alone = model.logits(params, tokens_1xT[:, start:end])
        np.testing.assert_allclose(packed[:, start:end], alone, atol=1e-5)


BAD_ROPES = {
    "an unknown kind": ({"rope_type": "longrope", "factor": 2.0}, "rope_type is 'longrope'; supported are default"),
    "no factor": ({"rope_type": "yarn"}, "rope_type 'yarn' needs the fields factor"),
    "two contexts": (
        {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64},
        "original_max_position_embeddings is 64 and max_position_embeddings 128",
    ),
    "a context that shrinks": ({"rope_type": "dynamic", "factor": 0.5}, "factor is 0.5; .* at least 1"),
    "betas that change places": (
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 32.0},
        "beta_fast 1 must not be less than beta_slow 32",
    ),
    "a parameter of another kind": ({"rope_type": "linear", "factor": 2.0, "mscale": 1.0}, "rope's '?mscale'? is 1.0"),
}


@pytest.mark.parametrize("fault", BAD_ROPES)
def test_ropes_that_are_refused(fault):
    scaling, says = BAD_ROPES[fault]
    with pytest.raises(UserError, match=says):
        ModelConfig.from_hf(FAMILIES["llama"] | {"rope_scaling": scaling})
