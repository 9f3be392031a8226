"""Adapters change what they should, by as much as they should, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.models import lora, partition, peft
from tests.families import COMPUTED, logits, tiny

TOKENS_BxT = np.random.default_rng(0).integers(0, 48, (2, 11)).astype(np.int32)


def trained(params, targets=lora.ALL_KERNELS, rank=3):
    """Adapters that are no longer zero."""
    adapters = lora.init(jax.random.key(0), params, rank, targets)
    return jax.tree.map(lambda a: a + 0.2 * jax.random.normal(jax.random.key(a.size), a.shape), adapters)


@pytest.mark.parametrize("family", COMPUTED)
def test_fresh_adapters_change_nothing_and_merged_is_attached(family):
    model, params = tiny(family)
    fresh = lora.attach(params, lora.init(jax.random.key(0), params, rank=3), scale=2.0)
    # Zero is added exactly; XLA may fuse the two programs differently, to the last bit of a sum.
    plain = logits(model, params, TOKENS_BxT)
    np.testing.assert_allclose(logits(model, fresh, TOKENS_BxT), plain, rtol=0, atol=1e-5)
    attached = lora.attach(params, trained(params), scale=2.0)
    merged = jax.jit(lora.merge)(attached)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    with_adapters = logits(model, attached, TOKENS_BxT)
    assert np.abs(with_adapters - logits(model, params, TOKENS_BxT)).max() > 0.1
    np.testing.assert_allclose(with_adapters, logits(model, merged, TOKENS_BxT), atol=5e-4)
    jax.tree.map(np.testing.assert_array_equal, lora.detach(attached), params)


def test_a_is_kaiming_uniform_and_independent_of_the_other_targets():
    _, params = tiny("qwen3")
    both = lora.init(jax.random.key(0), params, 64, "q|down")
    for name, inputs in (("q", 16), ("down", 24)):
        a = both[name]["a"]
        assert 0.95 / np.sqrt(inputs) < np.abs(a).max() <= 1 / np.sqrt(inputs)
        assert abs(float(a.mean())) < 0.02
    np.testing.assert_array_equal(lora.init(jax.random.key(0), params, 64, "down")["down"]["a"], both["down"]["a"])


def test_dropout_needs_a_key_and_differs_between_keys_and_layers():
    model, params = tiny("qwen3")
    adapters = trained(params)

    def run(**options):
        return logits(model, lora.attach(params, adapters, 1.0, **options), TOKENS_BxT)

    plain = run()
    np.testing.assert_array_equal(run(dropout=0.5), plain)
    one, again, other = (run(dropout=0.5, key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - plain).max() > 1e-3 < np.abs(one - other).max()
    keys = lora.attach(params, adapters, 1.0, 0.5, jax.random.key(1))["layers"]
    data = np.concatenate([jax.random.key_data(keys[name].key) for name in adapters])
    assert len(np.unique(data, axis=0)) == len(data) == 2 * len(adapters)


def test_only_adapters_get_gradients():
    model, params = tiny("qwen3")
    adapters = lora.init(jax.random.key(0), params, 3, "q|o")

    def loss(adapters):
        return model.logits(lora.attach(params, adapters, 1.0), TOKENS_BxT)[..., 0].sum()

    gradients = jax.jit(jax.grad(loss))(adapters)
    assert jax.tree.structure(gradients) == jax.tree.structure(adapters)
    for name in adapters:
        assert np.abs(gradients[name]["b"]).max() > 0
        np.testing.assert_array_equal(gradients[name]["a"], 0.0)  # B is zero at the start.


def test_peft_round_trip_is_bitwise(tmp_path):
    model, params = tiny("llama_bias")
    adapters = trained(params, "q|o|down")
    config = peft.AdapterConfig(rank=3, alpha=4.0, dropout=0.1, base="some/model")
    peft.save_adapters(tmp_path, adapters, config)
    found, found_config = peft.load_adapters(tmp_path, model.config)
    assert found_config == config
    jax.tree.map(np.testing.assert_array_equal, found, adapters)


def test_adapters_of_another_model_are_refused(tmp_path):
    model, params = tiny("qwen3")
    peft.save_adapters(tmp_path, trained(params), peft.AdapterConfig(rank=3, alpha=4.0))
    with pytest.raises(UserError, match=r"layers\.0\.self_attn\.q_proj\.lora_B\.weight has shape \(40, 3\)"):
        peft.load_adapters(tmp_path, tiny("llama")[0].config)
    with pytest.raises(UserError, match=r"no such file"):
        peft.load_adapters(tmp_path / "nowhere", model.config)


@pytest.mark.parametrize("targets", ["attention", "q|("])
def test_targets_that_mean_nothing(targets):
    with pytest.raises(UserError, match="LoRA's targets"):
        lora.matched(targets)


def test_adapters_are_sharded_like_their_kernels():
    _, params = tiny("qwen3")
    attached = lora.attach(params, lora.init(jax.random.key(0), params, 3, "q|o"), 1.0, 0.1, jax.random.key(0))
    specs = partition.parameter_specs(attached)["layers"]
    assert specs["q"].base == partition.spec((None, "width", "heads", None))
    assert specs["q"].a == partition.spec((None, "width", None))
    assert specs["q"].b == partition.spec((None, None, "heads", None))
    assert specs["o"].a == partition.spec((None, "heads", None, None))
    assert specs["o"].b == partition.spec((None, None, "width"))
    alone = partition.parameter_specs(lora.init(jax.random.key(0), params, 3, "q"))
    assert alone["q"]["b"] == specs["q"].b
    assert jnp.ndim(attached["layers"]["q"].key) == len(specs["q"].key)
