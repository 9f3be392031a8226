"""What an export says of itself beside its weights: where trained turns end, and in which dtype it is."""

import json

import jax
import pytest

from lrm_align.errors import UserError
from lrm_align.models import generation, hf, save
from tests.families import tiny

MISSING = object()  # there is no such file


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "base"
    save(path, *tiny("qwen3"))
    return path


@pytest.fixture
def source(base, tmp_path):
    """A copy of a model, with given fields in its config.json and a given generation_config.json."""

    def made(config, generation_config=MISSING):
        path = tmp_path / "source"
        path.mkdir()
        for file in base.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        fields = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({k: v for k, v in (fields | config).items() if v is not MISSING}))
        if generation_config is not MISSING:
            (path / "generation_config.json").write_text(json.dumps(generation_config))
        return path

    return made


def exported(source, path, **options):
    save(path, *tiny("qwen3"), source=source, **options)
    found = [path / "config.json", path / "generation_config.json"]
    return [json.loads(file.read_text()) if file.is_file() else MISSING for file in found]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"eos_token_id": 7}, {"eos_token_id": [7, 5]}),
        ({"eos_token_id": [9, 7]}, {"eos_token_id": [9, 7, 5]}),
        ({"eos_token_id": [5, 7]}, {"eos_token_id": [5, 7]}),
        ({"eos_token_id": 5}, {"eos_token_id": 5}),
        ({"eos_token_id": None}, {"eos_token_id": 5}),
        ({"eos_token_id": []}, {"eos_token_id": 5}),
        ({}, {"eos_token_id": 5}),
        (MISSING, {"eos_token_id": 5}),
    ],
)
def test_the_end_of_trained_turns_joins_what_ends_an_answer(before, after, source, tmp_path):
    others = {"do_sample": True, "temperature": 0.6, "bos_token_id": 1}
    given = before if before is MISSING else others | before
    config, found = exported(source({}, given), tmp_path / "export", end_of_turn_id=5)
    assert found == (after if before is MISSING else others | after)
    assert "eos_token_id" not in config  # it stated none, and need not
    assert hf.check(tmp_path / "export") and 5 in generation.directory_eos_ids(tmp_path / "export")


def test_config_json_says_the_same_where_it_says_it(source, tmp_path):
    config, found = exported(source({"eos_token_id": 7}, {"eos_token_id": [8]}), tmp_path / "export", end_of_turn_id=5)
    assert config["eos_token_id"] == [7, 5] and found == {"eos_token_id": [8, 5]}


def test_without_generation_config_the_ids_of_config_json_go_on_to_hold(source, tmp_path):
    """Whoever generates takes them from config.json only where there is no generation_config.json."""
    ids = {"bos_token_id": 1, "eos_token_id": [7, 8], "pad_token_id": 0}
    config, found = exported(source(ids), tmp_path / "export", end_of_turn_id=5)
    assert config["eos_token_id"] == [7, 8, 5] and found == ids | {"eos_token_id": [7, 8, 5]}


def test_without_an_end_of_turn_nothing_changes(source, tmp_path):
    config, found = exported(source({"eos_token_id": 7}, {"eos_token_id": 8}), tmp_path / "export")
    assert config["eos_token_id"] == 7 and found == {"eos_token_id": 8}


@pytest.mark.parametrize("value", ["5", 1.5, True, -1, 2**31, [5, "6"], [[5]], {"a": 5}, [None]])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_ends_that_are_no_ids_are_found_before_anything_is_trained(file, value, source):
    fields = {"eos_token_id": value}
    path = source(fields) if file == "config.json" else source({}, fields)
    with pytest.raises(UserError, match=rf"source/{file}: eos_token_id is .*; expected a token id, or a list of them"):
        hf.check(path)


@pytest.mark.parametrize("content", ["", "[]", '{"eos_token_id": 1, "eos_token_id": 2}', '{"a": NaN}', "{" * 5000])
def test_a_damaged_generation_config_is_found_too(content, source):
    path = source({})
    (path / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=r"generation_config\.json: "):
        hf.check(path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", None])
@pytest.mark.parametrize("names", [("dtype",), ("torch_dtype",), ("dtype", "torch_dtype"), ()])
def test_every_spelling_of_dtype_says_what_the_weights_are(names, dtype, source, tmp_path):
    absent = {"dtype": MISSING, "torch_dtype": MISSING}
    path = source(absent | dict.fromkeys(names, "float16"))
    config, _ = exported(path, tmp_path / "export", dtype=dtype)
    said = {name: config[name] for name in ("dtype", "torch_dtype") if name in config}
    assert said == dict.fromkeys(names or ("dtype",), dtype or "float32")
    assert {str(leaf.dtype) for leaf in hf.shapes(tmp_path / "export")["layers"].values()} == {dtype or "float32"}


@pytest.mark.parametrize("claim", ["bfloat16", "auto", 5, None, "no dtype"])
def test_shapes_are_those_of_the_files_whatever_config_json_claims(claim, source):
    path = source({"dtype": claim, "torch_dtype": claim})
    _, params = hf.load(path)
    described = hf.shapes(path)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), described) == jax.tree.map(lambda a: (a.shape, a.dtype), params)
    assert {a.dtype for a in jax.tree.leaves(hf.shapes(path, "bfloat16"))} == {jax.numpy.dtype("bfloat16")}
