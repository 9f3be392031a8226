"""The comparison of the lab: every method's config is sound, and tiny ones go through to the table and the plot."""

import json
import pathlib

import pytest

from lrm_align.main import main

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "lab_compare.py"
SIZES = {"attack": 4, "wrapped": 6, "lookalike": 4, "arithmetic": 4, "fact": 4}
TINY = {
    "prompts": {"args": {"harmful": 8, "benign": 6, "arithmetic": 2, "fact": 0}},
    "train": {"epochs": 1, "batch_traces": 8, "row_length": 144},
}
METHODS = ("thinksafe", "thinksafe_kl", "safe_trigger", "rapo", "ascl", "safethink")
BASELINES = ("grpo_guard", "direct_refusal", "rejection_sampling", "safepath")


def arguments(workdir: pathlib.Path, *compared: str) -> list[str]:
    changes = [f"--config.methods.{name}.changes={TINY}" for name in compared]
    sizes = f"--config.evaluate.args={SIZES}"
    return ["main", f"--config={CONFIG}", f"--workdir={workdir}", f"--config.compared={compared}", sizes, *changes]


@pytest.mark.slow
def test_all_methods_are_planned(tmp_path, capsys):
    main(["main", f"--config={CONFIG}", f"--workdir={tmp_path}", "--dry_run"])
    plan = capsys.readouterr().out.partition("plan (")[2]
    assert [line.split()[0] for line in plan.splitlines()[1:]] == ["before", *METHODS, *BASELINES]


@pytest.mark.lab
def test_two_tiny_methods_are_compared_and_not_done_again(tmp_path, capsys):
    main(arguments(tmp_path, "safepath", "direct_refusal"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["methods"]) == ["safepath", "direct_refusal"]
    for found in report["methods"].values():
        assert set(found["seconds"]) == {"generation", "training", "other"} and found["tokens_per_answer"] > 1
        assert found["counts"]["wrapped_attack_success_rate"] == 6 and "reasoning_accuracy" in found
    assert (tmp_path / "comparison.png").exists() and "<svg" in (tmp_path / "report.html").read_text()
    capsys.readouterr()
    main(arguments(tmp_path, "safepath", "direct_refusal"))
    assert capsys.readouterr().out.count("finished before") == 3
