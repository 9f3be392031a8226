"""GRPO as a recipe: what a dry run says, all stages at the smallest size, and what learning can achieve."""

import json
import pathlib

import pytest

from lrm_align.main import main

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "lab_arithmetic.py"
TINY = {
    "prompts.args.arithmetic": 6,
    "rl.steps": 2,
    "rl.groups": 2,
    "rl.samples": 2,
    "rl.piece_rows": 2,
    "rl.checkpoint_every": 1,
    "rl.sampling.slots": 4,
    "rl.sampling.max_new_tokens": 24,
    "rl.sampling.max_length": 48,
    "rl.row_length": 48,
    "rl.max_segments": 1,
    "sample.slots": 4,
    "sample.max_length": 48,
    "sample.max_new_tokens": 8,
    "evaluate.args": dict.fromkeys(("attack", "wrapped", "lookalike", "arithmetic", "fact"), 2),
}


def test_a_dry_run_says_what_is_asked_and_graded(tmp_path, capsys):
    sizes = "--config.prompts.args={'harmful': 4, 'benign': 2, 'arithmetic': 3, 'fact': 0}"
    main(["main", f"--config={CONFIGS / 'lab_grpo_guard.py'}", f"--workdir={tmp_path}", "--dry_run", sizes])
    said = capsys.readouterr().out
    assert "prompts: 4 harmful, 5 benign, each asked about 168.9 times" in said
    assert "RL: 190 steps of 8 groups of 8 samples" in said and "graded by: safety, form" in said
    assert "weaken" not in said.partition("plan")[2] and "reinforce" in said.partition("plan")[2]


@pytest.mark.parametrize(
    "config, change, says",
    [
        ("lab_arithmetic.py", "answer.pattern=(", "no regular expression"),
        ("lab_arithmetic.py", "weaken.args.scale=-1.0", "scale is -1.0"),
        ("lab_arithmetic.py", "rl.samples=1", "rl.samples is 1"),
        ("lab_grpo_guard.py", "reward.args.weights={'saftey': 1.0}", "no score 'saftey'"),
    ],
)
def test_mistakes_end_before_anything_slow(tmp_path, capsys, config, change, says):
    with pytest.raises(SystemExit) as stopped:
        main(["main", f"--config={CONFIGS / config}", f"--workdir={tmp_path}", f"--config.{change}"])
    assert stopped.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.lab
def test_a_weakened_model_goes_through_all_stages(tmp_path):
    values = [f"--config.{key}={value}" for key, value in TINY.items()]
    main(["main", f"--config={CONFIG}", f"--workdir={tmp_path}", *values])
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"before", "after"} <= set(report) and report["training"]["steps"] == 2
    (stage,) = tmp_path.glob("reinforce-*")
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1] and all(row["gap/mean"] < 1e-4 for row in rows)
    assert (stage / "rollouts.jsonl").exists() and list(tmp_path.glob("export-*/model/model.safetensors"))


@pytest.mark.lab
def test_rewards_alone_lift_a_weakened_model_by_ten_points(tmp_path):
    main(["main", f"--config={CONFIG}", f"--workdir={tmp_path}"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0.5 < report["before"]["reasoning_accuracy"] < 0.75
    assert report["after"]["reasoning_accuracy"] >= report["before"]["reasoning_accuracy"] + 0.10
