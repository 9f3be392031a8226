"""Our models against recorded outputs of transformers, from weights made by name: no torch needed."""

import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrm_align import models
from tests.families import FAMILIES, greedy, logits, nll_and_gradients, random_weights, respelled

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


def test_forward_and_decoding(recorded):
    directory, golden = recorded
    model, params = models.load(directory)
    np.testing.assert_allclose(logits(model, params, golden["tokens_BxT"]), golden["logits_BxTxV"], atol=1e-4)
    np.testing.assert_array_equal(greedy(model, params, golden["greedy"][:10], 24), golden["greedy"])


def test_gradients(recorded, tmp_path):
    directory, golden = recorded
    model, params = models.load(directory, remat="full")
    loss, gradients = nll_and_gradients(model, params, golden["tokens_BxT"])
    np.testing.assert_allclose(loss, golden["loss"], atol=1e-5)
    models.save(tmp_path / "gradients", model, gradients)  # The writer gives them their names and layouts.
    ours = load_file(tmp_path / "gradients" / "model.safetensors")
    theirs = {name.removeprefix("gradient."): g for name, g in golden.items() if name.startswith("gradient.")}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-5, rtol=1e-4, err_msg=name)
