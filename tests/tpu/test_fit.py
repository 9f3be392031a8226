"""The does-it-fit tool: its verdicts, its messages, and, where libtpu is installed, a compilation."""

import doctest
import json
import pathlib
import sys

import pytest

from lrm_align import config as configs
from lrm_align.errors import UserError
from lrm_align.models import ModelConfig
from lrm_align.training import flops

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tpu"))

import fit
import shapes
import table

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "thinksafe_tpu.py"
TINY = {
    "model_type": "qwen3",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
}


def test_doctests():
    assert doctest.testmod(fit).failed == 0


@pytest.mark.parametrize("name", ["v6e", "v6e:4", "v9:4x4", "v5p:4x4", "v6e:4x4x4", "v6e:axb", ""])
def test_unknown_topologies_are_refused_with_examples(name):
    with pytest.raises(UserError, match="v6e:4x4"):
        fit.topology_devices(name)


def test_another_fault_of_the_compiler_is_not_called_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="INTERNAL"):
        fit.exhausted("INTERNAL: Mosaic failed to compile")


def test_a_refusal_without_figures():
    assert fit.exhausted("RESOURCE_EXHAUSTED: out of something") == (None, None)
    text = fit.report(fit.Fit(False, None, 15.75, 3.0, 1e12, {}), "x on v5e:4x4")
    assert text.endswith("does not fit: needs more a device, has 15.75 GiB")


def test_a_command_without_topology_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main(["fit.py", f"--config={CONFIG}:qwen3_8b"])
    assert exit_.value.code == 2 and "topology" in capsys.readouterr().err


def test_without_libtpu_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(fit.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        fit.main(["fit.py", f"--config={CONFIG}:qwen3_8b", "--topology=v6e:4x4", "--json"])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and "pip install .[tpu]" in err and len(err.splitlines()) == 1 and not out


# The model cards' sizes; embeddings that serve as the head count once.
@pytest.mark.parametrize(
    "path, billions",
    [
        ("Qwen/Qwen3-0.6B", 0.60),
        ("Qwen/Qwen3-1.7B", 1.72),
        ("Qwen/Qwen3-4B", 4.02),
        ("Qwen/Qwen3-8B", 8.19),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.78),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8.03),
    ],
)
def test_shipped_shapes_have_the_published_sizes(path, billions):
    config = ModelConfig.from_hf(shapes.CONFIGS[path])
    embedding = 0 if config.tied else config.vocab_size * config.width
    assert (flops.matmul_parameters(config) + embedding) / 1e9 == pytest.approx(billions, abs=0.006)


def test_every_preset_of_the_table_has_its_shape():
    for preset in table.PRESETS:
        assert configs.load(f"{CONFIG}:{preset}").model.path in shapes.CONFIGS


def test_the_table_tells_fits_from_refusals():
    facts = {
        "peak_hbm_gib": 10.5,
        "hbm_gib": 31.25,
        "compile_s": 40.2,
        "model_flops": 3.1e15,
        "memory_gib": {},
        "effort": "little",
    }
    results = {
        "a on v6e:4x4": {"fits": True, **facts},
        "a on v5e:4x4": {"fits": False, **facts, "peak_hbm_gib": 17.5, "hbm_gib": 15.75},
        "a on v5p:2x2x1": {"fits": True, **facts, "effort": "full"},
    }
    text = table.render(["a"], ["v6e:4x4", "v5e:4x4", "v5p:2x2x1"], results)
    assert "| a | 10.5 (40 s) | **17.5 of 15.8** | 10.5* (40 s) |" in text


@pytest.mark.slow
def test_compiles_for_a_topology_without_a_tpu(tmp_path, capsys):
    pytest.importorskip("libtpu")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    overrides = {"model.path": tmp_path, "train.row_length": 256, "train.batch_rows": 4}
    argv = ["fit.py", f"--config={CONFIG}:qwen3_8b_full", "--topology=v6e:2x2", "--json"]
    status = fit.main(argv + [f"--config.{key}={value}" for key, value in overrides.items()])
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[0])
    assert status == 0 and len(lines) == 1 and result["fits"] and result["hbm_gib"] == 31.25
    # Weights and two moments in float32 over four chips, and little more.
    state = 3 * 4 * flops.count(fit.abstract_params(ModelConfig.from_hf(TINY), "float32")) / 4 / fit.GIB
    assert state < result["memory_gib"]["arguments"] < state + 0.01 < result["peak_hbm_gib"] + 0.01


@pytest.mark.slow
def test_says_what_it_needs_where_it_does_not_fit(capsys):
    pytest.importorskip("libtpu")
    argv = ["fit.py", f"--config={CONFIG}:qwen3_8b_full", "--topology=v5e:1x1", "--config.train.batch_rows=1"]
    assert fit.main(argv) == 1
    assert "does not fit: needs" in capsys.readouterr().out
