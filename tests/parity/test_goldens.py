"""Our models against recorded outputs of transformers, from weights made by name: no torch needed."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from families import FAMILIES, greedy, random_weights, respelled
from lrm_align import models
from lrm_align.models import Model

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(params=[(family, spelling) for family in FAMILIES for spelling in ("old", "new")], ids="-".join)
def recorded(request, tmp_path):
    """A Hugging Face directory in one spelling of the rope fields, and what transformers computed from it."""
    family, spelling = request.param
    golden = dict(np.load(GOLDEN / f"{family}.npz"))
    fields = json.loads(str(golden["config"]))
    assert fields == FAMILIES[family], "run tests/golden/make_goldens.py again"
    (tmp_path / "config.json").write_text(json.dumps(respelled(fields) if spelling == "new" else fields))
    save_file(random_weights(json.loads(str(golden["shapes"])), int(golden["seed"])), tmp_path / "model.safetensors")
    return tmp_path, golden


def mean_nll(params, model: Model, tokens_BxT):
    segments = jnp.ones_like(tokens_BxT)
    scores = models.sequence_scores(model.hidden(params, tokens_BxT), model.head(params), tokens_BxT, segments, chunk=16)
    return -jnp.mean(scores["logp"][:, 1:])


def test_logits(recorded):
    directory, golden = recorded
    model, params = models.load(directory)
    np.testing.assert_allclose(model.logits(params, golden["tokens_BxT"]), golden["logits_BxTxV"], atol=1e-4)


def test_gradients(recorded, tmp_path):
    directory, golden = recorded
    model, params = models.load(directory, remat="full")
    loss, gradients = jax.jit(jax.value_and_grad(mean_nll), static_argnums=1)(params, model, golden["tokens_BxT"])
    np.testing.assert_allclose(loss, golden["loss"], atol=1e-5)
    models.save(tmp_path / "gradients", model, gradients)  # The writer gives them their names and layouts.
    ours = load_file(tmp_path / "gradients" / "model.safetensors")
    theirs = {name.removeprefix("gradient."): g for name, g in golden.items() if name.startswith("gradient.")}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-5, rtol=1e-4, err_msg=name)


def test_greedy_decoding(recorded):
    directory, golden = recorded
    model, params = models.load(directory)
    np.testing.assert_array_equal(greedy(model, params, golden["greedy"][:10], 24), golden["greedy"])
