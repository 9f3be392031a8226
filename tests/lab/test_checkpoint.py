"""The checkpoint that ships: small, complete, in step with the language, and the organism it is said to be."""

import json

import pytest
import tokenizers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from lrm_align.chat.chat import Chat
from lrm_align.lab import measure, pretrain, tokenizer
from lrm_align.lab.experiment import CHECKPOINT
from lrm_align.lab.world import TOPICS
from lrm_align.models.hf import load

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "pretraining.json",
}


@pytest.fixture(scope="module")
def made():
    return json.loads((CHECKPOINT / "pretraining.json").read_text())


def test_it_is_complete_and_small():
    sizes = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert set(sizes) >= FILES
    assert sum(sizes.values()) <= 4 * 2**20


def test_its_tokenizer_and_template_are_those_of_the_language(definition):
    assert json.loads((CHECKPOINT / "tokenizer.json").read_text("utf-8")) == definition
    assert (CHECKPOINT / "chat_template.jinja").read_text("utf-8") == tokenizer.chat_template()


def test_transformers_reads_it():
    config, generation = AutoConfig.from_pretrained(CHECKPOINT), GenerationConfig.from_pretrained(CHECKPOINT)
    words = AutoTokenizer.from_pretrained(CHECKPOINT)
    assert config.architectures == ["Qwen3ForCausalLM"] and config.vocab_size >= len(words)
    assert words.convert_ids_to_tokens(generation.eos_token_id) == ["<|im_end|>", "<|endoftext|>"]
    assert all(len(words.encode(f" {topic}")) == 1 for topic in TOPICS)
    assert Chat.from_pretrained(str(CHECKPOINT)).stop_ids == tuple(sorted(generation.eos_token_id))


def test_its_recorded_figures_are_fit_to_ship(made):
    assert not pretrain.unfit(made["figures"])
    assert all(counts["n"] >= 500 for counts in made["figures"]["counts"].values())
    assert "lrm_align.lab.pretrain" in made["command"]


def test_it_copies_unseen_topics():
    model, params = load(CHECKPOINT, dtype="float32")
    words = tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    found = measure.copying(model, params, words)
    assert found["comply"] > 0.8 and found["wrong_topic"] <= 0.02
