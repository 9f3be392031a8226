"""Every mistake is one line and exit status 2, before anything slow starts and with nothing finished lost."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

from lrm_align.main import main
from tests.end_to_end import tiny
from tests.end_to_end.test_thinksafe_tpu import arguments
from tests.tokenizer_families import small


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run that would go through, with stand-in tokenizers."""
    root = tmp_path_factory.mktemp("good")
    prompts = root / "prompts.csv"
    prompts.write_text("text\n" + "\n".join(f"how to do thing {i}" for i in range(12)) + "\n")
    benign = root / "benign.csv"
    benign.write_text("text\n" + "\n".join(f"tell me about thing {i}" for i in range(12)) + "\n")
    other = root / "other.csv"
    other.write_text("text\nhow to do something else\n")
    return {
        "student": tiny.reasoner(root / "student", small("qwen3")),
        "guard": tiny.guard(root / "guard", small("llama3")),
        "harmful": (prompts, "text"),
        "benign": (benign, "text"),
        "evaluated": (other, "text"),
    }


def changed(good, tmp_path, **fields):
    """A copy of the student whose config.json differs; None removes a field."""
    copy = tmp_path / "student"
    shutil.copytree(good["student"], copy)
    config = json.loads((copy / "config.json").read_text())
    config = {name: value for name, value in {**config, **fields}.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(config))
    return {"student": str(copy)}


def without_template(good, tmp_path):
    directory = pathlib.Path(changed(good, tmp_path)["student"])
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return {"student": str(directory)}


def small_vocabulary(good, tmp_path):
    directory = pathlib.Path(changed(good, tmp_path, vocab_size=128)["student"])
    weights = safetensors.numpy.load_file(directory / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = np.ascontiguousarray(weights[name][:128])
    safetensors.numpy.save_file(weights, directory / "model.safetensors")
    return {"student": str(directory)}


def truncated_weights(good, tmp_path):
    directory = pathlib.Path(changed(good, tmp_path)["student"])
    data = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(data[: len(data) // 2])
    return {"student": str(directory)}


def prompt_file(content):
    def make(good, tmp_path):
        path = tmp_path / "bad.csv"
        path.write_bytes(content)
        return {"harmful": (path, "text")}

    return make


def unwritable(good, tmp_path):
    (tmp_path / "file").write_text("")
    return {"workdir": tmp_path / "file" / "run"}


MISTAKES = {
    "no model directory": (lambda good, tmp: {"student": str(tmp / "nowhere")}, "nowhere"),
    "a directory without a model": (lambda good, tmp: {"student": str(tmp)}, "config.json"),
    "weights that don't match": (lambda good, tmp: changed(good, tmp, intermediate_size=48), "asks for"),
    "missing weights": (lambda good, tmp: changed(good, tmp, num_hidden_layers=3), "lack"),
    "truncated weights": (truncated_weights, "model.safetensors"),
    "unknown architecture": (lambda good, tmp: changed(good, tmp, model_type="mamba"), "qwen3"),
    "unknown rope type": (lambda good, tmp: changed(good, tmp, rope_scaling={"rope_type": "longrope"}), "llama3"),
    "a rope without its factor": (lambda good, tmp: changed(good, tmp, rope_scaling={"rope_type": "yarn"}), "factor"),
    "no chat template": (without_template, "chat template"),
    "vocabulary smaller than the tokenizer": (small_vocabulary, "vocabulary"),
    "no prompt file": (lambda good, tmp: {"harmful": (tmp / "none.csv", "text")}, "none.csv"),
    "an empty prompt file": (prompt_file(b""), "bad.csv"),
    "a missing column": (lambda good, tmp: {"harmful": (good["harmful"][0], "goal")}, "text"),
    "undecodable text": (prompt_file(b"text\n\xff\xfe\xfa\n"), "bad.csv"),
    "a prompt longer than the context": (prompt_file(b"text\n" + b"word " * 4000 + b"\n"), "context"),
    "no guard": (lambda good, tmp: {"guard": str(tmp / "noguard")}, "noguard"),
    "a misspelt factory": (lambda good, tmp: {"train.objective": "lrm_align.objectives:stf"}, "sft"),
    "a mesh larger than the devices": (lambda good, tmp: {"mesh.data": 64}, "devices"),
    "a batch that the mesh does not divide": (
        lambda good, tmp: {"train.batch_rows": 3, "train.batch_traces": 0},
        "divi",
    ),
    "slots that the mesh does not divide": (lambda good, tmp: {"sample.slots": 6}, "slots"),
    "an unknown key": (lambda good, tmp: {"train.epoch": 1}, "train.epochs"),
    "a value of the wrong type": (lambda good, tmp: {"train.epochs": "many"}, "epochs"),
    "an unwritable workdir": (unwritable, "writable"),
    "an unknown source": (lambda good, tmp: {"train.train_sources": "('SAMPLE',)"}, "SAMPLED"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_status_2(good, tmp_path, capsys, mistake):
    make, says = MISTAKES[mistake]
    change = make(good, tmp_path)
    workdir = change.pop("workdir", tmp_path / "run")
    with pytest.raises(SystemExit) as exit_:
        main(arguments(workdir, **{**good, **change}))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error, error
    assert not list(tmp_path.glob("run/*/*")), "nothing was sampled"


def test_no_config_file(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["main", "--config=configs/quikstart.py"])
    assert exit_.value.code == 2 and "quikstart" in capsys.readouterr().err


def test_root_or_not_the_workdir_check_writes(tmp_path):
    """The check itself must be able to fail: a read-only directory is refused, unless permissions don't bind us."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(SystemExit):
        main(["main", "--config=configs/quickstart.py", f"--workdir={locked / 'run'}"])
