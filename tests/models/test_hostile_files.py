"""Model directories that strangers made: whatever lies in them ends in one line, at once, and nothing waits."""

import json
import os
import pathlib
import shutil
import warnings

import hypothesis
import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.models import Model, ModelConfig, finite, hf, hf_files, save
from tests import hub_cache
from tests.families import FAMILIES, respelled, tiny

NASTY = [None, True, False, 0, 1, -1, 3, 2**31, 2**64, 10**200, 0.0, -0.5, 1e308, 1e-300, "", "8", "silu", "\x1b[2J"]
NASTY += [[], [1], ["full_attention"], [[]], {}, {"a": 1}, {"rope_type": 3}, {"rope_theta": -1}, {"full_attention": {}}]
FIELDS = sorted({name for fields in FAMILIES.values() for name in fields} | respelled(FAMILIES["llama"]).keys())
FIELDS += ["layer_types", "use_sliding_window", "quantization_config", "partial_rotary_factor", "dtype", "eos_token_id"]


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    st.sampled_from(sorted(FAMILIES)),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(NASTY)), min_size=1, max_size=2),
)
def test_a_config_describes_a_model_or_is_refused(family, new, changes):
    fields = respelled(FAMILIES[family]) if new else FAMILIES[family]
    try:
        config = ModelConfig.from_hf(fields | dict(changes), "DIR/config.json")
    except UserError as error:
        assert str(error).startswith("DIR/config.json") and "\x1b" not in str(error) and len(str(error)) < 400
        return
    assert ModelConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config
    jax.eval_shape(Model(config).init, jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "16"}, "hidden_size is '16'; expected a whole number from 1 to 262,144"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected a whole number from 1 to 2,000"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": -2}, "num_key_value_heads is -2; expected a whole number from 1 to 4"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"head_dim": None, "hidden_size": 18}, "hidden_size 18 is no multiple of num_attention_heads 4"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps is '1e-6'; expected a number from 0 to 1"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; expected true or false"),
        ({"attention_bias": 1}, "attention_bias is 1; expected true or false"),
        ({"rope_theta": 0}, "rope_theta is 0; expected a number from 1e-06"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'; expected an object"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2}}, "rope: factor is -2"),
        (
            {"rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]}},
            r"rope's mrope_section is \[16, 24, 24\]; this parameter is not supported",
        ),
        ({"rope_scaling": {"full_attention": {"rope_theta": 1e6}}}, "rope's full_attention is {'rope_theta'"),
        (
            {"rope_scaling": FAMILIES["llama"]["rope_scaling"] | {"high_freq_factor": 1.5}},
            "must be less than high_freq",
        ),
        ({"layer_types": "full_attention"}, "layer_types is 'full_attention'; expected a list of names"),
        ({"layer_types": ["chunked_attention"]}, "all layers must attend in full"),
        ({"max_position_embeddings": 1e5}, "max_position_embeddings is 100000.0; expected a whole number"),
        ({"model_type": ["llama"]}, "model_type is .'llama'.; expected text"),
    ],
)
def test_fields_that_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        ModelConfig.from_hf(FAMILIES["llama"] | {"rope_scaling": None} | changes)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "llama"
    save(path, *tiny("llama"), max_shard_bytes=6000)
    return path


@pytest.fixture
def directory(sharded, tmp_path):
    """A copy of a model in several files."""
    return pathlib.Path(shutil.copytree(sharded, tmp_path / "model"))


def change_index(path, change):
    file = path / "model.safetensors.index.json"
    fields = json.loads(file.read_text())
    change(fields["weight_map"])
    file.write_text(json.dumps(fields))


def other(name):
    return lambda weight_map: weight_map.update({"model.norm.weight": name})


NOT_PLAIN = [
    "../model/x.safetensors",
    "/etc/x.safetensors",
    "sub/x.safetensors",
    "..",
    ".",
    "",
    "x.bin",
    ".safetensors",
]
NOT_PLAIN += ["C:\\x.safetensors", "a\0.safetensors", "a\nb.safetensors", 1, None, ["x.safetensors"], {}]


@pytest.mark.parametrize("name", NOT_PLAIN, ids=repr)
def test_an_index_names_plain_files(name, directory):
    change_index(directory, other(name))
    message = r"index\.json: the file of 'model\.norm\.weight' is .*; expected the plain name of a \.safetensors file"
    with pytest.raises(UserError, match=message):
        hf.check(directory)


@pytest.mark.parametrize("value", [None, [], {}, "x", 3])
def test_an_index_without_a_map(value, directory):
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": value}))
    with pytest.raises(UserError, match="has no weight_map, an object that names the file of each tensor"):
        hf.check(directory)


def test_a_tensor_lies_where_the_index_says(directory):
    files = sorted(p.name for p in directory.glob("*.safetensors"))
    change_index(directory, other(files[0]))  # it lies in the last
    with pytest.raises(UserError, match=f"places 'model.norm.weight' in {files[0]}, which does not hold it"):
        hf.check(directory)


def test_an_index_that_promises_too_much(directory):
    change_index(directory, lambda weight_map: weight_map.update({"\x1b[2J": min(weight_map.values())}))
    with pytest.raises(UserError, match=r"places '\\x1b\[2J' in model-00001-of-\d+\.safetensors, which does not hold"):
        hf.check(directory)


def test_links_stay_in_the_directory_or_in_the_cache_of_the_hub(directory, tmp_path):
    file = sorted(directory.glob("*.safetensors"))[0]
    expected = hf.load(directory)[1]
    (tmp_path / "elsewhere").mkdir()
    file.rename(tmp_path / "elsewhere" / file.name)
    file.symlink_to(f"../elsewhere/{file.name}")
    with pytest.raises(UserError, match=f"{file.name}: is a link out of the directory, to .*elsewhere"):
        hf.check(directory)
    file.unlink()
    (tmp_path / "elsewhere" / file.name).rename(directory / "blob")
    file.symlink_to("blob")
    jax.tree.map(np.testing.assert_array_equal, hf.load(directory)[1], expected)


def test_a_hub_id_is_read_as_a_directory_is(directory, tmp_path, monkeypatch):
    expected = hf.load(directory)[1]
    hub_cache.fill(tmp_path, directory, "someone/small", monkeypatch)
    jax.tree.map(np.testing.assert_array_equal, hf.load("someone/small")[1], expected)


@st.composite
def damage(draw):
    """A file of the model, and what becomes of its bytes: some replaced, left out, repeated or put in."""
    name = draw(st.sampled_from(["config.json", "generation_config.json", hf_files.INDEX, "*.safetensors"]))
    where = draw(st.floats(0, 1))
    length = draw(st.integers(0, 40))
    new = draw(st.sampled_from([b"", b"0", b"-", b"9" * 30, b"[" * 200, b"null", b'"', b",", b"NaN", b"e9"]))
    return name, where, length, draw(st.binary(max_size=12)) if draw(st.booleans()) else new


@hypothesis.settings(max_examples=80)
@hypothesis.given(damage())
def test_damage_anywhere_is_found_or_harmless(sharded, tmp_path_factory, damage):
    name, where, length, new = damage
    path = pathlib.Path(shutil.copytree(sharded, tmp_path_factory.mktemp("damaged") / "model"))
    (path / "generation_config.json").write_text('{"eos_token_id": [7, 9], "temperature": 0.6}')
    file = sorted(path.glob(name))[0]
    data = file.read_bytes()
    start = int(where * (8 + int.from_bytes(data[:8], "little") if name.startswith("*") else len(data)))
    file.write_bytes(data[:start] + new + data[start + length :])
    try:
        hf.check(path)
    except UserError as error:
        assert len(str(error)) < 900 and "damaged" in str(error)
    shutil.rmtree(path)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def nowhere(path):
    path.symlink_to("nowhere")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("make", [fifo, device, nowhere, pathlib.Path.mkdir])
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"]
)
def test_what_is_no_file_is_not_opened(name, make, directory):
    (directory / name).unlink(missing_ok=True)
    make(directory / name)
    with pytest.raises(UserError, match=f"{name}: (a FIFO|a device|a directory|no such file)"):
        hf_files.resolve(directory)


@pytest.mark.parametrize("make", [fifo, device, nowhere, pathlib.Path.mkdir, empty])
def test_shards_that_are_no_files(make, directory):
    file = sorted(directory.glob("*.safetensors"))[0]
    file.unlink()
    make(file)
    with pytest.raises(UserError, match=file.name):
        hf.check(directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"a": NaN}', '{"a": 1, "a": 2}', '["\\ud800"]', "[" * 9999, "{" * 9])
def test_json_that_is_none(name, content, directory):
    (directory / name).write_text(content)
    with pytest.raises(UserError, match=name):
        hf.check(directory)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/" + "y" * 300, "\x1b[2J/x", "", "..", "a/../b"])
def test_names_that_are_no_model(name):
    with pytest.raises(UserError) as error:
        hf_files.resolve(name)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 600


def test_a_home_directory(directory, monkeypatch):
    monkeypatch.setenv("HOME", str(directory.parent))
    assert hf_files.resolve("~/model") == hf_files.resolve(directory)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_is_what_numpy_says(dtype):
    bits = np.random.default_rng(0).integers(0, 256, 400_000, np.uint8).view(dtype)
    edges = [0, -0.0, np.inf, -np.inf, np.nan, -np.nan, ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).min]
    for value in [*bits[:2000], *np.asarray(edges, dtype)]:
        assert finite.is_finite(np.asarray([1, value, -1], dtype)) == bool(np.isfinite(np.float32(value)))


@pytest.mark.parametrize("sharded_on", [None, {"fsdp": 8}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value, sharded_on, tmp_path):
    model, params = tiny("qwen3")
    params["layers"]["up"] = params["layers"]["up"].at[1, 3, 5].set(value)
    params["final_norm"] = params["final_norm"].at[0].set(value)
    save(tmp_path, model, params)
    mesh = None
    if sharded_on:
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()).reshape(1, 8, 1), ("data", "fsdp", "tensor"))
    with pytest.warns(RuntimeWarning, match=r"2 tensors with NaN or infinite values: model\.(norm|layers)\.") as found:
        hf.load(tmp_path, mesh)
    (line,) = [str(one.message) for one in found]
    assert "model.layers.1.mlp.up_proj.weight" in line and "model.norm.weight" in line and str(tmp_path) in line


def test_numbers_that_the_asked_dtype_lacks_are_named_too(tmp_path):
    model, params = tiny("qwen3")
    save(tmp_path, model, params | {"final_norm": params["final_norm"].at[0].set(1e30)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hf.load(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"1 tensor with NaN or infinite values: model\.norm\.weight"):
        hf.load(tmp_path, dtype="float16")
