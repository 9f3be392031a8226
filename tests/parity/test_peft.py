"""Adapters against the `peft` library, both ways; skipped where it is not installed."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft_library = pytest.importorskip("peft")

from lrm_align import models
from lrm_align.errors import UserError
from lrm_align.merge import merge
from lrm_align.models import lora, peft, peft_config
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


# Every way of starting LoRA that peft knows and that leaves the base's weights alone, and what else is computed.
PLAIN = {
    "default": {},
    "random": {"init_lora_weights": False},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "rank_stabilized": {"use_rslora": True},
    "every_kernel": {"target_modules": "all-linear", "exclude_modules": ["k_proj"], "task_type": "CAUSAL_LM"},
}
# These move a part of the base's weights into the adapters, or compute something else.
OTHERS = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "alora": {"alora_invocation_tokens": [3, 4], "task_type": "CAUSAL_LM"},
    "layers": {"layers_to_transform": [0]},
    "ranks": {"rank_pattern": {"q_proj": 2}},
    "alphas": {"alpha_pattern": {"q_proj": 2}},
    "head": {"modules_to_save": ["lm_head"]},
    "tokens": {"trainable_token_indices": [1, 2]},
    "replicated": {"layer_replication": [(0, 2), (1, 2)]},
    "parameters": {"target_parameters": ["mlp.up_proj.weight"]},
    "bias": {"bias": "lora_only"},
}


def wrapped(tmp_path, **settings):
    """A small model of ours and the same in peft, with fresh adapters."""
    model, params = tiny("qwen3")
    models.save(tmp_path / "base", model, params)
    torch.manual_seed(0)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj", "o_proj"]} | settings
    theirs = peft_library.get_peft_model(reference.load(tmp_path / "base"), peft_library.LoraConfig(**options))
    return model, params, theirs


def trained(tmp_path, **settings):
    """Adapters as peft leaves them after a step of training, and what peft computes with them when it reads them."""
    model, params, theirs = wrapped(tmp_path, **settings)
    step = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], 0.5)
    tokens = torch.tensor(TOKENS_BxT.astype(np.int64))
    theirs(tokens, labels=tokens).loss.backward()
    step.step()
    theirs.save_pretrained(tmp_path / "adapters")
    again = peft_library.PeftModel.from_pretrained(reference.load(tmp_path / "base"), tmp_path / "adapters").eval()
    return model, params, reference.logits(again, TOKENS_BxT)


@pytest.mark.parametrize("settings", PLAIN.values(), ids=PLAIN)
def test_we_compute_plain_lora_of_peft(settings, tmp_path):
    model, params, expected = trained(tmp_path, **settings)
    adapters, config = peft.load_adapters(tmp_path / "adapters", model.config)
    ours = lora.attach(params, adapters, config.scale)
    assert np.abs(expected - logits(model, params, TOKENS_BxT)).max() > 0.01
    np.testing.assert_allclose(logits(model, ours, TOKENS_BxT), expected, atol=2e-4)


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_we_refuse_what_is_another_function(settings, tmp_path):
    model, _, theirs = wrapped(tmp_path, **settings)
    theirs.save_pretrained(tmp_path / "adapters")
    (field,) = settings.keys() - {"task_type"}
    with pytest.raises(UserError, match=f"adapter_config.json: {field} is .*; only plain LoRA is computed here"):
        peft.load_adapters(tmp_path / "adapters", model.config)


def test_every_field_of_this_peft_is_known_or_off(tmp_path):
    peft_library.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"]).save_pretrained(tmp_path)
    assert peft_config.read(tmp_path) == peft_config.AdapterConfig(4, 6.0)


def test_the_merged_model_is_that_of_peft(tmp_path):
    _, _, expected = trained(tmp_path)
    merge(tmp_path / "adapters", tmp_path / "merged", base=str(tmp_path / "base"))
    theirs = reference.load(tmp_path / "merged")
    np.testing.assert_allclose(reference.logits(theirs, TOKENS_BxT), expected, atol=2e-4)
