"""Adapters that strangers made: plain LoRA is read and merged, every other kind is refused by its field."""

import json
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lrm_align.errors import UserError
from lrm_align.merge import merge
from lrm_align.models import hf, lora, peft, peft_config, save
from tests.families import tiny

PLAIN = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "lora_dropout": 0.05, "bias": "none"}
NASTY = [None, True, False, 0, 1, -3, 0.5, 2**70, "", "x", "\x1b[2J", [], [0], [[]], {}, {"a": 1}]
FIELDS = ["init_lora_weights", "use_rslora", "base_model_name_or_path", "use_dora", "rank_pattern", "made_up", *PLAIN]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("task_type", "SEQ_CLS"),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "lora_ga"),
        ("init_lora_weights", 1),
        ("init_lora_weights", ["pissa"]),
        ("use_dora", True),
        ("use_qalora", True),
        ("alora_invocation_tokens", [1, 2]),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("layers_to_transform", 0),
        ("layers_to_transform", [0]),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [5]),
        ("target_parameters", ["mlp.experts"]),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("megatron_config", {"a": 1}),
        ("of_next_year", "on"),
    ],
)
def test_other_kinds_are_refused_by_field_and_value(name, value):
    with pytest.raises(
        UserError, match=f"adapter_config.json: {name} is {re.escape(repr(value))}; only plain LoRA is computed here"
    ):
        peft_config.parse(PLAIN | {name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0; expected a whole number from 1 to 65,536"),
        ({"r": "4"}, "r is '4'"),
        ({"r": None}, "r is missing"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'; expected a number"),
        ({"lora_alpha": None}, "lora_alpha is missing"),
        ({"lora_dropout": -1}, "lora_dropout is -1"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'; expected true or false"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path is 5; expected text"),
    ],
)
def test_values_that_are_none(changes, message):
    with pytest.raises(UserError, match=f"adapter_config.json: {message}"):
        peft_config.parse(PLAIN | changes)


@hypothesis.given(st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(NASTY)), min_size=1, max_size=3))
def test_a_config_is_plain_lora_or_refused(changes):
    try:
        config = peft_config.parse(PLAIN | dict(changes))
    except UserError as error:
        assert str(error).startswith("adapter_config.json: ") and "\x1b" not in str(error)
        return
    assert peft_config.parse(json.loads(json.dumps(peft_config.written(config, ["q_proj"])))) == config
    assert np.isfinite(config.scale)


def test_the_scale_of_rank_stabilized_adapters():
    assert peft_config.parse(PLAIN).scale == 6 / 4
    assert peft_config.parse(PLAIN | {"use_rslora": True}).scale == 6 / 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A base model with a tokenizer file, and adapters that are no longer zero."""
    root = tmp_path_factory.mktemp("pair")
    model, params = tiny("qwen3")
    save(root / "base", model, params)
    (root / "base" / "tokenizer.json").write_text('{"of": "the base"}')
    (root / "base" / "chat_template.jinja").write_text("the base's")
    adapters = jax.tree.map(lambda a: a + 0.1, lora.init(jax.random.key(0), params, 3, "q|down"))
    config = peft.AdapterConfig(3, 4.0, base=str(root / "base"))
    peft.save_adapters(root / "adapters", adapters, config)
    return root, model, jax.jit(lora.merge)(lora.attach(params, adapters, config.scale))


def test_merged_is_base_plus_adapters(pair, tmp_path):
    root, model, expected = pair
    again, params = hf.load(merge(root / "adapters", tmp_path / "merged"))
    assert again == model
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, expected)
    assert (tmp_path / "merged" / "tokenizer.json").read_text() == '{"of": "the base"}'


def test_a_tokenizer_beside_the_adapters_is_the_merged_model_s(pair, tmp_path):
    root, *_ = pair
    own = tmp_path / "adapters"
    own.mkdir()
    for file in (root / "adapters").iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    (own / "tokenizer.json").write_text('{"of": "the adapters"}')
    merge(own, tmp_path / "merged")
    assert (tmp_path / "merged" / "tokenizer.json").read_text() == '{"of": "the adapters"}'
    assert not (tmp_path / "merged" / "chat_template.jinja").exists()  # one set of files, not a mixture


def test_adapters_in_bfloat16(pair, tmp_path):
    root, model, _ = pair
    adapters, config = peft.load_adapters(root / "adapters", model.config)
    rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16), adapters)
    peft.save_adapters(tmp_path, rounded, config)
    again, _ = peft.load_adapters(tmp_path, model.config)
    jax.tree.map(np.testing.assert_array_equal, again, rounded)


@pytest.fixture
def adapters(pair, tmp_path):
    """A copy of the adapters."""
    (tmp_path / "copy").mkdir()
    for file in (pair[0] / "adapters").iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "copy"


def rename_base(path, name):
    fields = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(fields | {"base_model_name_or_path": name}))


def test_a_base_that_is_not_to_be_had(adapters, tmp_path):
    rename_base(adapters, "someone/base")
    with pytest.raises(UserError, match=r"someone/base: no such directory, .*; .*copy names it .*--base=DIR"):
        merge(adapters, tmp_path / "merged")
    rename_base(adapters, None)
    with pytest.raises(UserError, match=r"adapter_config\.json: names no base model; give it: --base=DIR"):
        merge(adapters, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_merged_model_takes_no_one_s_place(adapters, pair):
    for target in (adapters, pair[0] / "base"):
        with pytest.raises(UserError, match="exists and is not empty; the merged model goes to a new directory"):
            merge(adapters, target)


def test_adapters_are_no_model(adapters, pair):
    with pytest.raises(UserError, match=r"PEFT adapters of the model .*base', not .*lrm_align\.merge .*copy NEW"):
        hf.check(adapters)
    for file in (pair[0] / "base").iterdir():
        (adapters / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="holds a model and PEFT adapters"):
        hf.check(adapters)


def test_weights_of_adapters_are_checked_as_a_model_s(adapters, pair):
    file, (_, model, _) = adapters / "adapter_model.safetensors", pair
    tensors = load_file(file)
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    save_file(tensors | {name: tensors[name] * np.nan}, file)
    with pytest.warns(RuntimeWarning, match=f"1 tensor with NaN or infinite values: {name}"):
        peft.load_adapters(adapters, model.config)
    save_file(tensors | {"base_model.model.lm_head.weight": tensors[name]}, file)
    with pytest.raises(UserError, match=r"has tensors besides adapters of .*: base_model\.model\.lm_head"):
        peft.load_adapters(adapters, model.config)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="it was cut or appended to"):
        peft.load_adapters(adapters, model.config)
    file.unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: no such file"):
        peft.load_adapters(adapters, model.config)
