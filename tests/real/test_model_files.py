"""Real weights: what we compute with them is what transformers computes, before and after an export of ours."""

import json
import warnings

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
import transformers

from lrm_align.chat import Chat
from lrm_align.merge import merge
from lrm_align.models import load, lora, peft, save
from tests import torch_reference as reference
from tests.families import greedy, logits

TEXTS = ["What is the capital of France?", "Write a haiku about the sea, then count its syllables: 5-7-5."]


@pytest.fixture(scope="module")
def loaded(real_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # published weights are finite
        return load(real_model, dtype="float32")


@pytest.fixture(scope="module")
def prompts(real_model):
    chat = Chat.from_pretrained(str(real_model))
    return [np.asarray(chat.prompt_ids(text), np.int32) for text in TEXTS]


@pytest.fixture(scope="module")
def theirs(real_model):
    return reference.load(real_model)


def test_logits_are_those_of_transformers(loaded, theirs, prompts):
    for prompt in prompts:
        expected = reference.logits(theirs, prompt[None])
        np.testing.assert_allclose(logits(*loaded, prompt[None]), expected, atol=2e-5 * np.abs(expected).max())


def test_greedy_answers_are_those_of_transformers(loaded, theirs, prompts):
    np.testing.assert_array_equal(greedy(*loaded, prompts[0], 24), reference.greedy(theirs, prompts[0], 24))


def test_an_export_is_the_model(real_model, loaded, theirs, prompts, tmp_path):
    chat = Chat.from_pretrained(str(real_model))
    save(tmp_path, *loaded, source=real_model, end_of_turn_id=chat.end_of_turn_id, max_shard_bytes=200_000_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again, params = load(tmp_path)
    assert again == loaded[0]
    jax.tree.map(np.testing.assert_array_equal, params, loaded[1])
    exported = reference.load(tmp_path)
    np.testing.assert_array_equal(*(reference.logits(model, prompts[0][None]) for model in (exported, theirs)))
    ends = transformers.GenerationConfig.from_pretrained(tmp_path).eos_token_id
    assert chat.end_of_turn_id in (ends if isinstance(ends, list) else [ends])
    before, after = (json.loads((path / "config.json").read_text()) for path in (real_model, tmp_path))
    ours = {"dtype", "torch_dtype", "eos_token_id"}
    assert {k: v for k, v in after.items() if k not in ours} == {k: v for k, v in before.items() if k not in ours}
    assert Chat.from_pretrained(str(tmp_path)).prompt_ids(TEXTS[0]) == prompts[0].tolist()


def test_adapters_are_those_of_peft_attached_and_merged(real_model, loaded, theirs, prompts, tmp_path):
    peft_library = pytest.importorskip("peft")
    model, params = loaded
    adapters = lora.init(jax.random.key(0), params, rank=4, targets="q|v|down")
    adapters = jax.tree.map(lambda a: a + 0.02 * jax.random.normal(jax.random.key(a.size), a.shape), adapters)
    config = peft.AdapterConfig(rank=4, alpha=8.0, base=str(real_model), rank_stabilized=True)
    peft.save_adapters(tmp_path / "adapters", adapters, config)
    expected = reference.logits(
        peft_library.PeftModel.from_pretrained(reference.load(real_model), tmp_path / "adapters").eval(),
        prompts[0][None],
    )
    scale = np.abs(expected).max()
    assert np.abs(expected - reference.logits(theirs, prompts[0][None])).max() > 0.01 * scale
    attached = lora.attach(params, adapters, config.scale)
    np.testing.assert_allclose(logits(model, attached, prompts[0][None]), expected, atol=1e-4 * scale)
    merged = reference.load(merge(tmp_path / "adapters", tmp_path / "merged"))
    np.testing.assert_allclose(reference.logits(merged, prompts[0][None]), expected, atol=1e-4 * scale)
    assert Chat.from_pretrained(str(tmp_path / "merged")).prompt_ids(TEXTS[0]) == prompts[0].tolist()
