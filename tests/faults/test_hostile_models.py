"""A model or guard that a stranger made: a run says in one line what is wrong with it, before anything slow."""

import json
import os
import pathlib
import shutil

import pytest

from lrm_align.main import main
from lrm_align.merge import main as merge
from tests.end_to_end.test_thinksafe_tpu import arguments
from tests.faults.test_bad_input import good

__all__ = ["good"]


def config(**fields):
    def spoil(path):
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return spoil


def written(name, content):
    return lambda path: (path / name).write_bytes(content)


def made(name, make):
    def spoil(path):
        (path / name).unlink(missing_ok=True)
        make(path / name)

    return spoil


def split(weight_map):
    """The weights of a directory behind an index."""

    def spoil(path):
        (path / "model.safetensors").rename(path / "a.safetensors")
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return spoil


def header(change):
    def spoil(path):
        file = path / "model.safetensors"
        data = file.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        fields = json.loads(data[8:end])
        raw = change(json.dumps(fields), fields)
        file.write_bytes(len(raw).to_bytes(8, "little") + raw.encode() + data[end:])

    return spoil


def shifted(_, fields):
    for entry in fields.values():
        if "data_offsets" in entry:
            entry["data_offsets"] = [n - 4 for n in entry["data_offsets"]]
    return json.dumps(fields)


HOSTILE = {
    "a size of another type": (config(hidden_size="16"), "hidden_size is '16'"),
    "a billion layers": (config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "negative heads": (config(num_key_value_heads=-2), "num_key_value_heads is -2"),
    "an end that is no id": (config(eos_token_id={"a": 1}), "eos_token_id is {'a': 1}"),
    "JSON without end": (written("config.json", b"[" * 100_000), "config.json"),
    "an empty config": (written("config.json", b""), "config.json"),
    "a number that is none": (written("config.json", b'{"model_type": NaN}'), "NaN"),
    "a key that stands twice": (written("config.json", b'{"a": 1, "a": 2}'), "twice"),
    "half a character": (written("generation_config.json", b'{"a": "\\ud800"}'), "generation_config.json"),
    "no id in generation_config": (written("generation_config.json", b'{"eos_token_id": ["2"]}'), "eos_token_id"),
    "a FIFO for a config": (made("config.json", os.mkfifo), "a FIFO"),
    "a FIFO for a template": (made("chat_template.jinja", os.mkfifo), "a FIFO"),
    "a device for weights": (made("model.safetensors", lambda path: path.symlink_to("/dev/zero")), "a device"),
    "a directory for a tokenizer": (made("tokenizer.json", pathlib.Path.mkdir), "a directory"),
    "an index out of the directory": (split({"x": "../a.safetensors"}), "plain name"),
    "an index that lies": (split({"x": "a.safetensors"}), "does not hold it"),
    "offsets into the header": (header(shifted), "expected whole numbers"),
    "a header of something else": (header(lambda text, _: text[:-1]), "header"),
    "adapters": (made("adapter_config.json", lambda path: path.write_text("{}")), "adapters"),
}


@pytest.mark.parametrize("role", ["student", "guard"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_one_line_and_status_2(kind, role, good, tmp_path, capsys):
    spoil, says = HOSTILE[kind]
    copy = pathlib.Path(shutil.copytree(good[role], tmp_path / "copy"))
    spoil(copy)
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path / "run", **{**good, role: str(copy)}))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error and "copy" in error, error
    assert not list(tmp_path.glob("run/*/*")), "nothing was sampled"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{}", "peft_type is None"),
        (b"", "adapter_config.json: not valid JSON"),
        (b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true}', "use_dora is True"),
        (b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8}', "names no base model"),
    ],
)
def test_merging_what_is_no_plain_lora(content, says, tmp_path, capsys):
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        merge(["merge", str(tmp_path), str(tmp_path / "merged")])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and says in error, error
