"""Hugging Face directories: in and out without a bit lost, and every mistake in one line."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from lrm_align.errors import UserError
from lrm_align.models import Model, ModelConfig, hf_files, load, lora, save
from tests.families import FAMILIES, respelled, tiny


@pytest.fixture
def directory(tmp_path):
    """A model as someone else would have written it: unknown fields, tokenizer, template."""
    save(tmp_path / "source", *tiny("qwen3"))
    path = tmp_path / "source"
    change_config(path, novelty={"kept": [1, 2]}, eos_token_id=[7, 9], torch_dtype="float32")
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (path / name).write_text(f'{{"file": "{name}"}}')
    (path / "README.md").write_text("not for the export")
    return path


def change_config(path, *removed, **changes):
    fields = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if k not in removed}))


def change_weights(path, change):
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


@pytest.mark.parametrize("spelling", ["old", "new"])
@pytest.mark.parametrize("family", FAMILIES)
def test_import_of_export_is_bitwise(family, spelling, tmp_path):
    model, params = tiny(family)
    fields = respelled(FAMILIES[family]) if spelling == "new" else FAMILIES[family]
    save(tmp_path / "one", model, params, max_shard_bytes=6000)
    (tmp_path / "one" / "config.json").write_text(json.dumps(fields))
    again, found = load(tmp_path / "one")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, found, params)
    save(tmp_path / "two", again, found, source=tmp_path / "one")
    written = json.loads((tmp_path / "two" / "config.json").read_text())
    assert written == fields | {"dtype": "float32"}


def test_export_keeps_what_came_with_the_model(directory, tmp_path):
    model, params = load(directory)
    out = tmp_path / "out"
    save(out, model, params, source=directory, dtype="bfloat16")
    fields = json.loads((out / "config.json").read_text())
    expected = json.loads((directory / "config.json").read_text())
    assert fields == expected | {"torch_dtype": "bfloat16", "dtype": "bfloat16"}
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (directory / name).read_bytes()
    assert not (out / "README.md").exists()
    _, rounded = load(out)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype("bfloat16")}
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(a.dtype)), rounded, params)


@pytest.mark.parametrize("name", hf_files.COMPANIONS)
def test_all_that_is_read_of_a_model_tells_it_from_another(directory, name):
    place = epath.Path(directory)
    before = hf_files.fingerprint(place)
    (place / name).write_text("{}")
    there = hf_files.fingerprint(place)
    (place / name).write_text('{"another": 1}')
    assert before != there != hf_files.fingerprint(place)
    (place / "README.md").write_text("a card is no part of it")
    assert there.keys() == hf_files.fingerprint(place).keys()


def test_shards_stay_under_their_limit_and_the_index_names_them(tmp_path):
    model, params = tiny("llama")
    save(tmp_path, model, params, max_shard_bytes=6000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    tensors = {
        name: array for file in set(index["weight_map"].values()) for name, array in load_file(tmp_path / file).items()
    }
    assert tensors.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in tensors.values())
    assert all(file.stat().st_size < 6000 + 4000 for file in tmp_path.glob("*.safetensors"))  # Headers come on top.
    save(tmp_path, model, params)
    assert [p.name for p in sorted(tmp_path.glob("model*"))] == ["model.safetensors"]  # No stale shard stays.


def test_adapters_are_merged(tmp_path):
    model, params = tiny("llama_bias")
    adapters = jax.tree.map(lambda a: a + 0.1, lora.init(jax.random.key(0), params, 2))
    attached = lora.attach(params, adapters, 2.0, 0.5, jax.random.key(0))
    save(tmp_path, model, attached)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), load(tmp_path)[1], jax.jit(lora.merge)(attached)
    )


def test_a_changed_shape_is_described_anew(directory, tmp_path):
    fields = respelled(FAMILIES["qwen3"]) | {"novelty": 1}
    (directory / "config.json").write_text(json.dumps(fields))
    model = Model(ModelConfig.from_hf(fields | {"vocab_size": 56}))
    params = tiny("qwen3")[1] | {"embed": np.zeros((56, 16)), "head": np.zeros((16, 56))}
    save(tmp_path / "out", model, params, dtype="float32", source=directory)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["vocab_size"], written["novelty"]) == (56, 1)
    assert ModelConfig.from_hf(written) == model.config


def test_a_tied_model_may_store_its_head_if_it_is_the_embedding(tmp_path):
    model, params = tiny("qwen2")
    save(tmp_path, model, params)
    change_weights(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path)[1], params)
    change_weights(tmp_path, lambda t: t.update({"lm_head.weight": t["lm_head.weight"] + 1}))
    with pytest.raises(UserError, match=r"tie_word_embeddings is true, but lm_head\.weight differs"):
        load(tmp_path)


def cut(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def rename_weights(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def drop(name):
    return lambda path: change_weights(path, lambda t: t.pop(name))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"model\.safetensors: the file has \d+ bytes, its header describes \d+"),
        (lambda p: (p / "model.safetensors").write_bytes(b"PK\3\4" + b"x" * 50), "no safetensors file, or a truncated"),
        (lambda p: (p / "model.safetensors").write_bytes(b""), "0 bytes are no safetensors file"),
        (lambda p: (p / "model.safetensors").unlink(), "holds no weights; expected model.safetensors"),
        (rename_weights, "holds pytorch_model.bin but no model.safetensors; only safetensors are read"),
        (drop("model.layers.1.mlp.up_proj.weight"), r"lack model\.layers\.1\.mlp\.up_proj\.weight of shape \[24, 16\]"),
        (drop("lm_head.weight"), r"lack lm_head\.weight .*tie_word_embeddings is false"),
        (
            lambda p: change_weights(p, lambda t: t.update(extra=t["model.norm.weight"])),
            "1 weights have no place .*: extra",
        ),
        (
            lambda p: change_config(p, hidden_size=32),
            r"embed_tokens\.weight has shape \[48, 16\], .* asks for \[48, 32\]",
        ),
        (lambda p: change_config(p, num_hidden_layers=1), "weights have no place in a qwen3 model"),
        (
            lambda p: change_config(p, model_type="gpt2"),
            "model_type is 'gpt2'; supported are llama, mistral, qwen2, qwen3",
        ),
        (
            lambda p: change_config(p, rope_scaling={"rope_type": "longrope"}),
            "rope_type is 'longrope'; supported are default",
        ),
        (lambda p: change_config(p, rope_scaling={"rope_type": "linear"}), "needs the fields factor"),
        (lambda p: change_config(p, "vocab_size"), "fields are missing: vocab_size"),
        (lambda p: change_config(p, num_key_value_heads=3), "multiple of num_key_value_heads 3"),
        (lambda p: change_config(p, quantization_config={"quant_method": "fp8"}), "has a quantization_config"),
        (lambda p: change_config(p, partial_rotary_factor=0.5), "partial_rotary_factor is not 1"),
        (lambda p: (p / "config.json").write_text("{"), r"config\.json: not valid JSON"),
        (lambda p: (p / "config.json").unlink(), "holds no config.json"),
    ],
)
def test_a_directory_that_cannot_be_loaded(directory, damage, message):
    damage(directory)
    with pytest.raises(UserError, match=message) as error:
        load(directory)
    assert str(directory) in str(error.value)


def test_windows_of_mistral():
    fields = FAMILIES["mistral"] | {"head_dim": None}
    assert ModelConfig.from_hf(fields).head_dim == 4 and ModelConfig.from_hf(fields | {"sliding_window": 128})
    assert ModelConfig.from_hf(fields).to_hf()["sliding_window"] is None  # transformers takes silence for 4,096
    with pytest.raises(UserError, match=r"sliding_window is 64, less than max_position_embeddings 128; .* null or no"):
        ModelConfig.from_hf(fields | {"sliding_window": 64})
    silent = {name: value for name, value in fields.items() if name != "sliding_window"}
    with pytest.raises(UserError, match="sliding_window is 4096, less than max_position_embeddings 32768"):
        ModelConfig.from_hf(silent | {"max_position_embeddings": 32_768})


def test_index_that_names_a_missing_file(tmp_path):
    save(tmp_path, *tiny("llama"), max_shard_bytes=6000)
    file = sorted(tmp_path.glob("*.safetensors"))[1]
    file.unlink()
    with pytest.raises(UserError, match=re.escape(f"{file}: no such file, though the model's index names it")):
        load(tmp_path)


def test_integers_are_no_weights(directory):
    change_weights(directory, lambda t: t.update({"model.norm.weight": np.zeros(16, np.int8)}))
    with pytest.raises(UserError, match=r"model\.norm\.weight is stored as I8; supported are F32, F16, BF16"):
        load(directory)


@pytest.mark.parametrize("name", ["nobody/nothing", "./missing", "/missing/model", "a/b/c"])
def test_neither_a_directory_nor_to_be_had(name):
    with pytest.raises(UserError, match=f"{name}: no such"):
        load(name)


def test_a_file_is_no_model(directory):
    with pytest.raises(UserError, match="no such model directory"):
        load(directory / "config.json")


def test_export_over_its_own_source_is_refused(directory):
    model, params = load(directory)
    with pytest.raises(UserError, match="is the directory that the model came from"):
        save(directory, model, params, source=directory)
    load(directory)


def test_export_with_the_source_of_another_family(directory, tmp_path):
    with pytest.raises(UserError, match="describes a qwen3 model, this is llama"):
        save(tmp_path / "out", *tiny("llama"), source=directory)
