"""Our models against transformers itself, both ways; skipped where torch is not installed."""

import numpy as np
import pytest

pytest.importorskip("torch")

from safetensors.numpy import load_file

from lrm_align import models
from tests import torch_reference as reference
from tests.families import FAMILIES, greedy, logits, nll_and_gradients, respelled, tiny


@pytest.mark.parametrize("spelling", ["old", "new"])
@pytest.mark.parametrize("family", FAMILIES)
def test_import(family, spelling, tmp_path):
    fields = respelled(FAMILIES[family]) if spelling == "new" else FAMILIES[family]
    reference.random_directory(tmp_path, fields, seed=3)
    theirs = reference.load(tmp_path)
    model, params = models.load(tmp_path)
    tokens_BxT = np.random.default_rng(0).integers(0, 48, (2, 33)).astype(np.int32)
    np.testing.assert_allclose(logits(model, params, tokens_BxT), reference.logits(theirs, tokens_BxT), atol=1e-4)
    loss, gradients = nll_and_gradients(model, params, tokens_BxT)
    their_loss, their_gradients = reference.gradients(theirs, tokens_BxT)
    np.testing.assert_allclose(loss, their_loss, atol=1e-5)
    models.save(tmp_path / "gradients", model, gradients)
    ours = load_file(tmp_path / "gradients" / "model.safetensors")
    assert ours.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_export(family, tmp_path):
    model, params = tiny(family, seed=5)
    models.save(tmp_path, model, params)
    theirs = reference.load(tmp_path)
    tokens_BxT = np.random.default_rng(1).integers(0, 48, (2, 33)).astype(np.int32)
    np.testing.assert_allclose(logits(model, params, tokens_BxT), reference.logits(theirs, tokens_BxT), atol=1e-4)
    prompt = tokens_BxT[0, :9]
    np.testing.assert_array_equal(greedy(model, params, prompt, 20), reference.greedy(theirs, prompt, 20))


def test_bfloat16_export_in_shards(tmp_path):
    model, params = tiny("qwen3")
    models.save(tmp_path, model, params, dtype="bfloat16", max_shard_bytes=4000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    theirs = reference.load(tmp_path)
    model, params = models.load(tmp_path, dtype="float32")
    tokens_BxT = np.random.default_rng(1).integers(0, 48, (2, 33)).astype(np.int32)
    np.testing.assert_allclose(logits(model, params, tokens_BxT), reference.logits(theirs, tokens_BxT), atol=1e-4)


# Each scaled rope with what else checkpoints say of it; the original context is 24 positions.
ROPES = {
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 3.0},
    "llama3": {
        "factor": 3.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 24,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 24},
    "yarn_whose_context_is_the_model's": {"factor": 4.0},
    "yarn_with_betas": {
        "factor": 4.0, "original_max_position_embeddings": 24, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False,
    },
    "yarn_with_attention": {"factor": 4.0, "original_max_position_embeddings": 24, "attention_factor": 0.7},
    "yarn_as_deepseek": {
        "factor": 4.0, "original_max_position_embeddings": 24, "mscale": 1.0, "mscale_all_dim": 0.7,
    },
}  # fmt: skip


@pytest.mark.parametrize("scaling", ROPES)
def test_scaled_ropes_below_and_beyond_the_original_context(scaling, tmp_path):
    rope = {"rope_type": scaling.split("_")[0], **ROPES[scaling]}
    fields = FAMILIES["llama"] | {"max_position_embeddings": 24, "rope_theta": 300.0, "rope_scaling": rope}
    reference.random_directory(tmp_path, fields, seed=3)
    model, params = models.load(tmp_path)
    models.save(tmp_path / "export", model, params)
    assert models.load(tmp_path / "export")[0].config == model.config
    tokens_BxT = np.random.default_rng(0).integers(0, 48, (2, 90)).astype(np.int32)
    for length in (24, 90):
        # Anew each time: a dynamic model of theirs remembers the longest sequence that it has seen.
        theirs = reference.logits(reference.load(tmp_path), tokens_BxT[:, :length])
        np.testing.assert_allclose(logits(model, params, tokens_BxT[:, :length]), theirs, atol=1e-4)
        exported = reference.logits(reference.load(tmp_path / "export"), tokens_BxT[:, :length])
        np.testing.assert_allclose(exported, theirs, atol=1e-6)
    prompt = tokens_BxT[0, :9]
    np.testing.assert_array_equal(
        greedy(model, params, prompt, 20), reference.greedy(reference.load(tmp_path), prompt, 20)
    )
