"""The TPU config of SafeThink goes through on CPU devices: a guard on its own mesh steers, another one measures."""

import json
import pathlib

import pytest

from lrm_align.main import main
from tests.end_to_end import tiny
from tests.tokenizer_families import small

CONFIG = f"--config={pathlib.Path(__file__).parents[2] / 'configs' / 'safethink_tpu.py'}:qwen3_0_6b"
SMALL = {
    "model.dtype": "float32",
    "mesh.fsdp": 2,
    "mesh.data": 2,
    "sample.max_new_tokens": 32,
    "sample.max_length": 512,
    "sample.slots": 8,
    "sample.steps_per_call": 8,
    "defence.args.steps": "tokens",
    "defence.args.resamples": 1,
    "guard.args.dtype": "float32",
    "guard.devices": 2,
    "evaluate.guard.factory": "lrm_align.scoring.llama_guard:load",
    "evaluate.guard.args.dtype": "float32",
    "evaluate.guard.sharded": False,
    "depth.steps": (0, 1),
    "cost.rounds": 1,
}


def files(root: pathlib.Path) -> dict[str, str]:
    found = {}
    for name, text in (("attacks", "how to do thing {}"), ("sums", "what is {} and one")):
        found[name] = str(root / f"{name}.csv")
        pathlib.Path(found[name]).write_text("text\n" + "".join(text.format(i) + "\n" for i in range(4)))
    return found


def arguments(root: pathlib.Path, **more) -> list[str]:
    asked = files(root)
    columns = {"text": "text"}
    values = {
        **SMALL,
        "model.path": tiny.reasoner(root / "student", small("qwen3")),
        "guard.args.path_or_hub_id": tiny.guard(root / "steers", small("llama3"), says="unsafe"),
        "evaluate.guard.args.path_or_hub_id": tiny.guard(root / "measures", small("llama3")),
        "evaluate.args.sources": {"attacks": {"path": asked["attacks"], "columns": columns, "label": "harmful"}},
        "cost.args.sources": {"sums": {"path": asked["sums"], "columns": columns, "label": "benign"}},
        **more,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return ["main", CONFIG, f"--workdir={root / 'run'}", *flags]


@pytest.mark.slow
def test_one_guard_steers_and_another_measures(tmp_path):
    main(arguments(tmp_path, **{"defence.args.step_tokens": 8}))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["after"]["attack_success_rate"] == 0.0, "the guard that measures calls everything safe"
    assert report["after"]["interventions"]["attacks"]["injection_rate"] > 0, "the one that steers nothing"
    assert [m for m, *_ in report["depth"]["depth"]] == [0, 1] and report["cost"]["prompts"] == 4


def test_a_dry_run_names_both(tmp_path, capsys):
    main([*arguments(tmp_path), "--dry_run"])
    said = capsys.readouterr().out
    assert "guard: lrm_align.scoring.llama_guard:load on 2 of 8 devices" in said and "guard of the evaluation:" in said
    assert not (tmp_path / "run").exists()
