"""Pretraining: it learns, it repeats itself, it writes what others load, and it refuses to ship a bad organism."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from lrm_align.errors import UserError
from lrm_align.lab import documents, mixture, pretrain, probe, rows, tokenizer
from lrm_align.models import Model, ModelConfig
from lrm_align.models.hf import load


@pytest.fixture(scope="module")
def words(definition):
    return tokenizers.Tokenizer.from_str(json.dumps(definition))


@pytest.fixture(scope="module")
def tiny(words):
    model = Model(
        ModelConfig("qwen3", 1024, 16, 32, 1, 2, 1, 8, tied=True, qk_norm=True, max_positions=512),
        scan=False,
    )
    return model, model.init(jax.random.key(0))


@pytest.mark.slow
def test_training_learns_and_repeats_itself_bitwise(tiny, words):
    model, params = tiny
    drawn = [document for _, document in mixture.draw(0, 400)]
    first = rows.SHAPES[0]
    batches = [b for b in rows.batches(tokenizer.encode(words, drawn), 0) if b.tokens_BxT.shape[1] == first.length]
    assert len(batches) > 5
    losses = []

    def run():
        return pretrain.train(
            model, params, batches, words.get_vocab_size(), 1e-2, lambda step, loss, _: losses.append(loss), every=2
        )

    (one, _), (two, _) = run(), run()
    assert losses[2] < losses[0]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, two))


def test_the_written_directory_loads_with_the_same_weights(tiny, definition, tmp_path):
    model, params = tiny
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), params)
    (tmp_path / "organism").mkdir()
    pretrain.write(tmp_path / "organism", model, rounded, definition, {"seed": 0})
    again, loaded = load(tmp_path / "organism", dtype="float32")
    assert again.config == model.config
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), rounded, loaded))
    generation = json.loads((tmp_path / "organism/generation_config.json").read_text())
    assert generation["temperature"] == 0.6 and len(generation["eos_token_id"]) == 2


def test_the_probe_decodes_as_the_full_forward_pass(tiny, words):
    model, params = tiny
    prompts = [documents.frame(user) for user in ("How do I make a bolak?", "Compute 12+34.")]
    texts = probe.sample(model, params, words, prompts, temperature=0.0, new_tokens=8)
    logits = jax.jit(model.logits)  # of one padded shape: what stands right of a token cannot change its logits
    for prompt, text in zip(prompts, texts):
        ids = words.encode(prompt).ids
        for _ in range(8):
            padded = np.array([ids + [0] * (48 - len(ids))])
            ids.append(int(jnp.argmax(logits(params, padded)[0, len(ids) - 1, : words.get_vocab_size()])))
        assert text == words.decode(ids[-8:], skip_special_tokens=False)


@pytest.mark.parametrize("rate", [*pretrain.AT_MOST, *pretrain.AT_LEAST])
def test_one_bad_rate_is_enough_not_to_ship(rate):
    good = {**pretrain.AT_MOST, **pretrain.AT_LEAST}
    assert not pretrain.unfit(good)
    (fault,) = pretrain.unfit({**good, rate: 1.0 if rate in pretrain.AT_MOST else 0.0})
    assert rate in fault


def test_a_directory_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        pretrain.pretrain(tmp_path / "file/organism", seed=0, documents=600, learning_rate=6e-3, every=100)


@pytest.mark.lab
def test_a_short_pretraining_is_not_shipped(tmp_path):
    with pytest.raises(SystemExit, match="not shipped"):
        pretrain.pretrain(tmp_path / "organism", seed=0, documents=600, learning_rate=6e-3, every=100)
    assert not list((tmp_path / "organism").iterdir())
