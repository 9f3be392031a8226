"""SFT from a file of somebody's examples to an exported model, on a tiny directory."""

import json
import pathlib

import jax
import numpy as np
import pytest

from lrm_align.main import main
from lrm_align.models import hf
from tests.end_to_end import tiny
from tests.tokenizer_families import small

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
    "lora.rank": 4,
    "train.row_length": 96,
    "train.max_segments": 8,
    "train.batch_traces": 4,
    "train.chunk": 0,
    "train.epochs": 6,
    "train.log_every": 1,
    "train.checkpoint_every": 4,
    "train.optimizer.learning_rate": 2e-2,
    "data.validation": 0.2,
    "data.validate_every": 5,
}


def rows():
    good = [{"messages": [{"role": "user", "content": f"abc {n}"},
                          {"role": "assistant", "content": f"<think>\ndef {n}\n</think>\n\nghi abc"}]}
            for n in range(20)]  # fmt: skip
    long = {"messages": [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "ghi " * 100}]}
    unanswered = {"messages": [{"role": "user", "content": "abc"}]}
    return [*good, long, unanswered]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return {"model.path": tiny.reasoner(root / "model", small("qwen3")), "data.path": str(root / "rows.jsonl")}


def run(workdir, good, *flags, config="sft", **more):
    values = {**SMALL, **good, **more}
    path = ROOT / "configs" / f"{config}.py"
    main(
        ["main", f"--config={path}", f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in values.items()), *flags]
    )
    return pathlib.Path(workdir)


def read(workdir, name):
    (file,) = workdir.glob(name)
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(good, tmp_path_factory):
    return run(tmp_path_factory.mktemp("trained"), good, **{"data.keep_best": True})


def test_a_run_from_examples_to_a_model(trained, good):
    report = json.loads((trained / "report.json").read_text())
    assert report["traces"]["kept"] == {"examples": 17, "held out": 4}
    assert report["traces"]["dropped"] == {"no assistant turn": 1}
    losses = [row["loss"] for row in read(trained, "train-*/metrics.jsonl")]
    assert losses[-1] < 0.7 * losses[0]
    (exported,) = trained.glob("export-*/model")
    before, after = (hf.load(path)[1] for path in (good["model.path"], exported))
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), before, after)
    assert changed["layers"]["q"] and not changed["embed"]
    assert list(trained.glob("export-*/adapters/adapter_model.safetensors"))


def test_the_held_out_loss_is_measured_before_along_the_way_and_at_the_end(trained):
    held = read(trained, "train-*/validation.jsonl")
    steps = len(read(trained, "train-*/metrics.jsonl"))
    assert [row["step"] for row in held] == [0, *range(5, steps, 5), *([steps])]
    assert len({row["tokens"] for row in held}) == 1 and held[-1]["loss"] < held[0]["loss"]
    assert json.loads((trained / "report.json").read_text())["training"]["validation"] == held


@pytest.mark.slow
def test_the_best_weights_are_written_out(trained, good, tmp_path):
    """A rate so high that the last weights are worse than some before."""
    worse = {"train.optimizer.learning_rate": 2.0, "train.optimizer.schedule": "constant", "train.epochs": 3}
    best = run(tmp_path / "best", good, **worse, **{"data.keep_best": True, "data.validate_every": 1})
    last = run(tmp_path / "last", good, **worse, **{"data.validate_every": 1})
    held = read(best, "train-*/validation.jsonl")
    assert held == read(last, "train-*/validation.jsonl") and min(row["loss"] for row in held) < held[-1]["loss"]
    (kept,) = best.glob("train-*/best/*")
    assert int(kept.name) == min(held, key=lambda row: row["loss"])["step"]
    again = {"data.path": good["data.path"], "train.epochs": 1, "train.optimizer.learning_rate": 1e-30}
    losses = []
    for workdir in (best, last):
        (model,) = workdir.glob("export-*/model")
        measured = run(tmp_path / f"measured_{workdir.name}", {"model.path": str(model)}, "--stages=train", **again)
        losses.append(read(measured, "train-*/validation.jsonl")[0]["loss"])
    assert losses[0] == pytest.approx(min(row["loss"] for row in held), rel=1e-4)
    assert losses[1] == pytest.approx(held[-1]["loss"], rel=1e-4)


def test_finished_stages_are_not_run_again(trained, good, capsys):
    run(trained, good, **{"data.keep_best": True})
    assert capsys.readouterr().out.count("finished before") == 3


def test_a_dry_run_shows_examples_with_their_mask_lengths_and_what_is_left_out(good, tmp_path, capsys):
    run(tmp_path / "dry", good, "--dry_run", **{"train.epochs": 1})
    out = capsys.readouterr().out
    assert f"data: {good['data.path']}, messages: 17 examples to train on, 4 held out" in out
    assert f"left out: 1 for no assistant turn, first {good['data.path']}, row 22" in out
    assert "tokens of an example, by percentile: 5% " in out and "rows of 96 tokens: 1 longer ones are left out" in out
    assert r"assistant\n⟦<think>\ndef " in out and r"</think>\n\nghi abc<|im_end|>⟧" in out
    assert "warning: 4 updates at a learning rate of 0.02 may teach nothing" in out
    assert not (tmp_path / "dry").exists()
    run(tmp_path / "dry", good, "--dry_run", **{"train.epochs": 20})
    assert "may teach nothing" not in capsys.readouterr().out


@pytest.mark.slow
def test_all_weights_and_cut_examples(good, tmp_path):
    options = {"lora.rank": 0, "train.overlong": "truncate", "train.epochs": 1, "data.validation": 0.0}
    workdir = run(tmp_path, good, "--stages=train", config="sft_tpu", **options,
                  **{"mesh.fsdp": 1, "model.dtype": "float32", "model.remat": "none", "train.chunk": 8})  # fmt: skip
    assert read(workdir, "train-*/metrics.jsonl") and not list(workdir.glob("train-*/validation.jsonl"))


MISTAKES = {
    "no path": ({"data.path": ""}, "config.data.path is empty"),
    "best of nothing": ({"data.validation": 0.0, "data.keep_best": True}, "keep_best needs held-out examples"),
    "nothing left": ({"data.validation": 0.99}, "nothing is left to train on"),
    "all too long": ({"train.row_length": 30}, "is longer than a row of 30 tokens, the shortest has 37"),
    "all prompts too long": ({"train.row_length": 16}, "17 prompt fills the row"),
    "a format that is not the file's": ({"data.format": "alpaca"}, "has nothing in column instruction, output"),
    "an unknown format": ({"data.format": "xml"}, "config.data.format is 'xml'; it must be one of 'auto'"),
    "nothing trained": ({"train.train_sources": "('SAMPLED',)"}, "train_sources"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_before_anything_starts(name, good, tmp_path, capsys):
    change, says = MISTAKES[name]
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "run", good, "--dry_run", **change)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert says in line and "Traceback" not in line
