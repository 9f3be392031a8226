"""GRPO on one's own questions, from a file of answers in a published form; one that nothing equals is refused."""

import json
import pathlib

import pytest

from lrm_align.main import main
from tests.end_to_end import tiny
from tests.tokenizer_families import small

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "grpo_answer.py"
SMALL = {
    "model.dtype": "float32",
    "model.remat": "none",
    "mesh.fsdp": 1,
    "rl.steps": 2,
    "rl.groups": 2,
    "rl.samples": 4,
    "rl.sampling.max_new_tokens": 8,
    "rl.sampling.max_length": 96,
    "rl.sampling.slots": 8,
    "rl.row_length": 96,
    "rl.piece_rows": 2,
    "rl.lora.rank": 2,
    "sample.max_new_tokens": 8,
    "sample.max_length": 96,
    "sample.slots": 8,
    "export.dtype": "float32",
}


def run(tmp_path, answers, *flags):
    rows = [{"question": f"How many is {n}?", "answer": answer} for n, answer in enumerate(answers)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "And now?", "answer": "3 + 4\n#### 7"}) + "\n")
    values = {**SMALL, "model.path": tiny.reasoner(tmp_path / "model", small("qwen3"))}
    for section, name, file in [("prompts.args.sources", "mine", "train"), ("prompts.against", "held_out", "test"),
                                ("evaluate.args.sources", "held_out", "test")]:  # fmt: skip
        values[f"{section}.{name}.path"] = str(tmp_path / f"{file}.jsonl")
    settings = (f"--config.{key}={value}" for key, value in values.items())
    main(["main", f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}", *settings, *flags])


@pytest.mark.slow
def test_a_run_on_gsm8ks_form_and_amounts_of_money(tmp_path):
    run(tmp_path, ["3 + 4 = <<3+4=7>>7\n#### 7", "$70,000", 12, r"\boxed{\frac12}"])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for half in ("before", "after"):
        assert report[half]["counts"] == {"held_out_accuracy": 1, "unfinished_rate": 1}
        assert report[half]["held_out_accuracy"] == 0.0
    (rows,) = (tmp_path / "run").glob("reinforce-*/metrics.jsonl")
    assert len(rows.read_text().splitlines()) == 2


@pytest.mark.parametrize("answer", ["", "unknown ####", r"\frac{1"])
def test_a_reference_that_nothing_equals_ends_the_dry_run(answer, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, ["7", answer], "--dry_run")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert ended.value.code == 2 and "the gold answer" in line and "cannot be read" in line
