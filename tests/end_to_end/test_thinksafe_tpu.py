"""The TPU config goes through on a CPU: a tiny Hugging Face model, the real tokenizers, real prompts, a Llama guard."""

import json
import pathlib

import pytest

from lrm_align.main import main
from lrm_align.models import hf
from tests.end_to_end import tiny
from tests.tokenizer_families import llama3, qwen

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'thinksafe_tpu.py'}:qwen3_0_6b"
SMALL = {
    "model.dtype": "float32",
    "mesh.fsdp": 2,
    "mesh.data": 2,
    "lora.rank": 4,
    "sample.max_new_tokens": 24,
    "sample.max_length": 512,
    "sample.slots": 8,
    "sample.steps_per_call": 8,
    "sample.shard_traces": 8,
    "train.row_length": 512,
    "train.epochs": 1,
    "train.chunk": 64,
    "train.checkpoint_every": 2,
    "train.log_every": 1,
    "guard.args.dtype": "float32",
    "guard.sharded": False,
    "evaluate.args.limit": 6,
}


def arguments(workdir, student, guard, harmful, benign, evaluated, **more):
    """The command line: three files of prompts in place of the hub's."""
    sources = {
        "harmful": {"path": str(harmful[0]), "columns": {"text": harmful[1]}, "label": "harmful", "limit": 10},
        "benign": {"path": str(benign[0]), "columns": {"text": benign[1]}, "label": "benign", "limit": 8},
    }
    held_out = {"held_out": {"path": str(evaluated[0]), "columns": {"text": evaluated[1]}, "label": "harmful"}}
    values = {
        **SMALL,
        "model.path": student,
        "guard.args.path_or_hub_id": guard,
        "prompts.args.sources": sources,
        "prompts.against": held_out,
        "evaluate.args.sources": held_out,
        **more,
    }
    return ["main", CONFIG, f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in values.items())]


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """Student and guard with the real tokenizers, and the real prompts."""
    root, data = tmp_path_factory.mktemp("real"), shared_data / "data"
    tokenizer = qwen(shared_data, "qwen3")
    tokenizer.chat_template = (data / "chat_templates" / "Qwen-Qwen3-current.jinja").read_text()
    return {
        "student": tiny.reasoner(root / "student", tokenizer),
        "guard": tiny.guard(root / "guard", llama3(shared_data)),
        "harmful": (data / "advbench" / "harmful_behaviors.csv", "goal"),
        "benign": (data / "dolly" / "databricks_dolly_1k.csv", "instruction"),
        "evaluated": (data / "jailbreakbench" / "harmful-behaviors.csv", "Goal"),
    }


@pytest.mark.slow
def test_real_prompts_and_tokenizers(real, tmp_path):
    main(arguments(tmp_path, **real))
    report = json.loads((tmp_path / "report.json").read_text())
    kept, dropped = report["traces"]["kept"], report["traces"]["dropped"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["config"]["sample"]["steering"] == "prefix"
    assert sum(kept.values()) + sum(dropped.values()) == 17, "one prompt of 18 is in the evaluation set"
    assert sum(kept.values()) > 0 and set(dropped) <= {"harmful: thinking not closed", "benign: thinking not closed"}
    assert report["before"]["attack_success_rate"] == 0.0, "this guard calls everything safe"
    (exported,) = tmp_path.glob("export-*/model")
    assert (exported / "chat_template.jinja").exists() or "chat_template" in (
        exported / "tokenizer_config.json"
    ).read_text()
    assert json.loads((exported / "config.json").read_text())["x_of_ours"] == 7
    model, _ = hf.load(exported)
    assert model.config.family == "qwen3"
    assert list(tmp_path.glob("export-*/adapters/adapter_model.safetensors"))
    metrics = next(tmp_path.glob("train-*/metrics.jsonl")).read_text().splitlines()
    assert len(metrics) == report["training"]["steps"]
