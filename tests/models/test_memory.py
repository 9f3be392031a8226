"""What does not fit is refused in one line before a weight is read."""

import pathlib

import jax
import pytest

from lrm_align import main, serve
from lrm_align.errors import UserError
from lrm_align.lab import CHECKPOINT
from lrm_align.models import load, memory, save
from lrm_align.recipes.student import Student
from lrm_align.training import make_mesh
from tests.families import tiny

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "123456\n"}, 123456),
        ({"memory/memory.limit_in_bytes": "1000\n"}, 1000),
        ({"memory.max": "9999999999999999999\n"}, None),
    ],
)
def test_a_container_has_what_it_may_have(tmp_path, files, limit):
    whole = memory.host(tmp_path / "none")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.host(tmp_path) == (whole if limit is None else limit)


def test_bytes_are_those_of_the_arrays():
    model, params = tiny("qwen3")
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert memory.weights(model, jax.eval_shape(lambda: params)) == held
    cache = jax.eval_shape(lambda: model.init_cache(3, 40))
    assert memory.decoding(model, 3, 40)["caches"] == sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache)
    )


def test_what_does_not_fit_says_what_is_needed_and_what_there_is(monkeypatch):
    monkeypatch.setattr(memory, "host", lambda: 3 * memory.GIB)
    memory.check("it", {"weights": memory.GIB, "caches": 2 * memory.GIB}, "try less")
    with pytest.raises(
        UserError, match=r"it needs at least 3\.5 GiB, this host has 3\.0 GiB \(weights 1\.5, caches 2\.0\); try less"
    ):
        memory.check("it", {"weights": 3 * memory.GIB // 2, "caches": 2 * memory.GIB}, "try less")


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (main.main, ["--config.sample.slots=1024"], "sampling 1024 × 144 tokens at a time"),
        (serve.main, ["--config.serve.slots=1024", "--port=0"], "sampling 1024 × "),
    ],
)
def test_sampling_and_serving_look_beforehand(command, arguments, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(memory, "host", lambda: 64 * 2**20)
    config = [
        f"--config={CONFIGS / 'quickstart.py'}",
        f"--config.model.path={CHECKPOINT}",
        f"--workdir={tmp_path / 'run'}",
    ]
    with pytest.raises(SystemExit) as exit:
        command(["command", *config, *arguments])
    assert exit.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error and "this host has 0.1 GiB" in error and "fewer slots" in error


def test_weights_that_do_not_fit_are_not_read(monkeypatch):
    monkeypatch.setattr(memory, "host", lambda: 2**20)
    with pytest.raises(UserError, match=r"loading .* needs at least"):
        load(CHECKPOINT, dtype="float32")


@pytest.mark.parametrize("asked", ["", "bfloat16"])
def test_a_cpu_holds_and_computes_half_precision_in_float32_and_exports_it_as_it_was(asked, tmp_path):
    model, params = load(CHECKPOINT)
    save(tmp_path / "half", model, params, CHECKPOINT, dtype="bfloat16")
    mesh = make_mesh({"data": 1, "fsdp": 1, "tensor": 1})
    settings = {
        "path": str(tmp_path / "half"),
        "dtype": "bfloat16",
        "param_dtype": asked,
        "remat": "none",
        "attention": "auto",
    }
    student = Student(settings, mesh)
    assert student.model.dtype == "float32" and student.export_dtype == "bfloat16"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(student.params)} == {"float32"}
    assert "on a CPU bfloat16 is held and computed as float32" in student.facts()
    assert student.bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(student.params))
    save(tmp_path / "whole", model, params, CHECKPOINT, dtype="float32")
    whole = Student({**settings, "path": str(tmp_path / "whole"), "param_dtype": "", "dtype": "float32"}, mesh)
    assert whole.export_dtype is None and len(whole.facts()) == len(student.facts()) - 1
