"""Adapters against the `peft` library, both ways; skipped where it is not installed."""

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
peft_library = pytest.importorskip("peft")

from lrm_align import models
from lrm_align.models import lora, peft
from tests import torch_reference as reference
from tests.families import FAMILIES, logits, tiny

TOKENS_BxT = np.random.default_rng(2).integers(0, 48, (2, 21)).astype(np.int32)


@pytest.mark.parametrize("targets", ["q|v", lora.ALL_KERNELS])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_our_adapters(family, targets, tmp_path):
    model, params = tiny(family)
    adapters = lora.init(jax.random.key(1), params, rank=3, targets=targets)
    adapters = jax.tree.map(lambda a: a + 0.2 * jax.random.normal(jax.random.key(2), a.shape), adapters)
    config = peft.AdapterConfig(rank=3, alpha=5.0)
    models.save(tmp_path / "base", model, params)
    peft.save_adapters(tmp_path / "adapters", adapters, config)
    theirs = peft_library.PeftModel.from_pretrained(reference.load(tmp_path / "base"), tmp_path / "adapters")
    ours = lora.attach(params, adapters, config.scale)
    assert np.abs(logits(model, ours, TOKENS_BxT) - logits(model, params, TOKENS_BxT)).max() > 0.1
    np.testing.assert_allclose(logits(model, ours, TOKENS_BxT), reference.logits(theirs, TOKENS_BxT), atol=1e-4)


def test_we_load_adapters_of_peft(tmp_path):
    import torch

    model, params = tiny("qwen3")
    models.save(tmp_path / "base", model, params)
    settings = peft_library.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj", "o_proj"])
    theirs = peft_library.get_peft_model(reference.load(tmp_path / "base"), settings).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    theirs.save_pretrained(tmp_path / "adapters")
    adapters, config = peft.load_adapters(tmp_path / "adapters", model.config)
    assert sorted(adapters) == ["down", "o", "q"]
    assert config.scale == 1.5
    ours = lora.attach(params, adapters, config.scale)
    np.testing.assert_allclose(logits(model, ours, TOKENS_BxT), reference.logits(theirs, TOKENS_BxT), atol=1e-4)
