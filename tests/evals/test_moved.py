"""KL of words against what the definition says, computed from whole logits."""

import dataclasses

import jax
import numpy as np
import pytest

from lrm_align import lab
from lrm_align.evals.moved import Moved, kl
from lrm_align.models import load
from lrm_align.training import make_mesh

BEFORE, WORDS, AFTER = [1, 300, 301, 302], [310, 311], [320, 321, 322]


@pytest.fixture(scope="module")
def organism():
    model, params = load(str(lab.CHECKPOINT))
    return dataclasses.replace(model, dtype="float32"), params


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])


def logp(organism, ids):
    logits = np.asarray(organism[0].logits(organism[1], np.array([ids])), np.float64)[0]
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def test_it_is_the_mean_of_full_kls_along_the_models_own_tokens_up_to_the_horizon(organism, mesh):
    plain, moved = logp(organism, BEFORE + AFTER), logp(organism, BEFORE + WORDS + AFTER)
    expected = []
    for t in range(2):
        p, q = plain[len(BEFORE) - 1 + t], moved[len(BEFORE) + len(WORDS) - 1 + t]
        expected.append(np.sum(np.exp(p) * (p - q)))
    rows = [Moved(BEFORE, WORDS, AFTER), Moved(BEFORE, WORDS, AFTER[:1]), Moved(BEFORE, [], AFTER)]
    found = kl(*organism, rows, mesh, horizon=2, size=2)
    np.testing.assert_allclose(found, [np.mean(expected), expected[0], 0.0], rtol=1e-4, atol=1e-5)
    assert expected[0] > 0.01
