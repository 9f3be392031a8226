"""DPO from a file of pairs to an exported model, on tiny directories and on the lab's model."""

import json
import pathlib

import jax
import numpy as np
import pytest

from lrm_align import lab
from lrm_align.chat import Chat
from lrm_align.main import main
from lrm_align.models import hf
from lrm_align.recipes import pairing
from lrm_align.traces import write_shard
from tests.end_to_end import tiny
from tests.tokenizer_families import small

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'dpo_tpu.py'}"
LOG2 = float(np.log(2))
END_OF_TEXT, END_OF_TURN = small("qwen3").convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
SMALL = {
    "model.dtype": "float32",
    "model.remat": "none",
    "mesh.fsdp": 1,
    "mesh.data": 2,
    "lora.rank": 4,
    "train.row_length": 96,
    "train.max_segments": 8,
    "train.batch_traces": 4,
    "train.chunk": 0,
    "train.epochs": 2,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
    "train.optimizer.learning_rate": 2e-2,
    "train.optimizer.warmup": 0.0,
}


def pairs_file(path: pathlib.Path) -> str:
    """Eight good rows in three forms, and one of each kind that is left out."""
    rows = [{"prompt": f"abc {i}", "chosen": f"<think>\ndef {i}\n</think>\n\nabc", "rejected": "ghi"} for i in range(6)]
    asked = {"role": "user", "content": "abc def"}
    rows.append({"prompt": [asked], "chosen": [{"role": "assistant", "content": "abc"}], "rejected": "ghi <|im_end|>"})
    rows.append({"chosen": [asked, {"role": "assistant", "content": "abc"}],
                 "rejected": [asked, {"role": "assistant", "content": "def"}]})  # fmt: skip
    rows.append({"prompt": "abc", "chosen": "same", "rejected": "same"})
    rows.append({"prompt": "abc", "chosen": "", "rejected": "def"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    # As base models have it: answers end at the end of a text, not at the end of a turn.
    tiny.reasoner(root / "model", small("qwen3"))
    (root / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": END_OF_TEXT, "top_k": 20}))
    return {"model.path": str(root / "model"), "pairs": pairs_file(root / "pairs.jsonl")}


def run(workdir, good, *flags, **more):
    values = {**SMALL, "model.path": good["model.path"], "pairs.args.path": good["pairs"], **more}
    main(["main", CONFIG, f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in values.items()), *flags])
    return pathlib.Path(workdir)


def metrics(workdir):
    (file,) = workdir.glob("train-*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def live(good, tmp_path_factory):
    return run(tmp_path_factory.mktemp("live"), good)


def test_a_run_from_pairs_to_a_model(live, good):
    report = json.loads((live / "report.json").read_text())
    assert report["traces"]["kept"] == {"pairs": 8}
    assert report["traces"]["dropped"] == {"equal answers": 1, "empty side": 1}
    rows = metrics(live)
    assert len(rows) == 4 == report["training"]["steps"]
    assert abs(rows[0]["loss"] - LOG2) < 1e-6 and rows[0]["rewards/margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["loss"] < 0.6 and rows[-1]["rewards/accuracy"] > 0.5
    assert report["training"]["preference"]["rewards/accuracy"] == rows[-1]["rewards/accuracy"]
    (exported,) = live.glob("export-*/model")
    assert list(live.glob("export-*/adapters/adapter_model.safetensors"))
    before, after = (hf.load(path)[1] for path in (good["model.path"], exported))
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), before, after)
    assert changed["layers"]["q"] and not changed["embed"]
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [END_OF_TEXT, END_OF_TURN], "top_k": 20}


def test_stored_reference_log_probabilities_are_kept_and_refused_when_stale(good, tmp_path, capsys):
    kept = tmp_path / "kept"
    options = {"reference.logp": "stored", "reference.path": str(kept)}
    for workdir in ("first", "second"):  # the second run finds those of the first
        run(tmp_path / workdir, good, "--stages=reference", **options)
        (manifest,) = kept.glob("reference-*.json")
    assert set(json.loads(manifest.read_text())["identity"]) == {"model", "data", "template", "compute"}
    capsys.readouterr()
    for change, changed in [({"pairs.args.limit": 4}, "data"), ({"model.dtype": "bfloat16"}, "compute")]:
        with pytest.raises(SystemExit) as ended:
            run(tmp_path / changed, good, "--stages=reference", **options, **change)
        assert ended.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert f"stale reference log-probabilities: the {changed} changed" in line


def test_pairs_are_encoded_anew_for_another_tokenizer(good, tmp_path, capsys):
    """Its template may be the same: then ids of the one would be trained on in the other."""
    tiny.reasoner(tmp_path / "model", small("qwen3"))
    vocabulary = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    vocabulary["added_tokens"][0]["lstrip"] = True
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(vocabulary))
    directories = []
    for model in (good["model.path"], str(tmp_path / "model")):
        run(tmp_path / "dry", good, "--dry_run", **{"model.path": model})
        directories += [word for word in capsys.readouterr().out.split() if word.startswith("pairs-")]
    assert len({*directories}) == 2


def test_finished_stages_are_not_run_again(live, good, capsys):
    before = (live / "report.json").read_text()
    run(live, good)
    out = capsys.readouterr().out
    assert out.count("finished before") == 3 and (live / "report.json").read_text() == before


def test_a_dry_run_shows_a_pair_with_its_masks(good, tmp_path, capsys):
    run(tmp_path / "dry", good, "--dry_run")
    out = capsys.readouterr().out
    assert "pairs: 8; left out: 1 for equal answers, 1 for empty side" in out
    assert "masked (not trained on): '<|im_start|>user" in out
    assert "trained on, chosen" in out and "trained on, rejected" in out
    assert not (tmp_path / "dry").exists()


@pytest.mark.slow
def test_pairs_of_traces_all_weights_and_a_stored_reference(good, tmp_path):
    chat = Chat.from_pretrained(good["model.path"])
    found = pairing.from_rows(chat, 0, path=good["pairs"])
    write_shard(tmp_path / "shards", "pairs", [trace for pair in found.traces() for trace in pair], "recipe")
    change = {"pairs.args.path": str(tmp_path / "shards"), "lora.rank": 0, "train.optimizer.learning_rate": 1e-3}
    change |= {
        "reference.logp": "stored",
        "train.objective_args.loss": "ipo",
        "train.objective_args.train_on": "after_divergence",
    }
    workdir = run(tmp_path / "run", good, **change, **{"train.epochs": 1})
    rows = metrics(workdir)
    assert rows[0]["loss"] == pytest.approx(25.0, rel=1e-5), "IPO starts at 1 / (2β)²"
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.slow
def test_the_lab_model(tmp_path):
    rows = [
        {"prompt": f"Tell me about number {i}.", "chosen": "It is safe.", "rejected": "I will not say."}
        for i in range(6)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    good = {"model.path": str(lab.CHECKPOINT), "pairs": str(file)}
    sizes = {"mesh.data": 1, "train.epochs": 1, "train.batch_traces": 3}
    found = metrics(run(tmp_path / "run", good, **sizes, **{"train.optimizer.learning_rate": 2e-3}))
    assert abs(found[0]["loss"] - LOG2) < 1e-6 and found[-1]["loss"] < found[0]["loss"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lora.dropout": 0.05}, "lora.dropout is 0.05 in preference training; it must be 0"),
        ({"train.objective_args.beta": 0.0}, "beta is 0.0; it must be positive"),
        ({"train.objective_args.loss": "dpo"}, "loss is 'dpo'"),
        ({"pairs.args.path": ""}, "config.pairs.args.path is empty"),
        ({"pairs.args.columns.chosen": "best"}, "missing column best; found prompt, chosen, rejected"),
        ({"pairs.factory": "lrm_align.recipes.pairing:PAIRS"}, "it names a factory"),
        ({"reference.logp": "somewhere"}, "config.reference.logp is 'somewhere'; it must be one of 'live', 'stored'"),
        ({"train.max_segments": 1}, "max_segments=1 cannot hold a pair"),
        ({"train.train_sources": ("TALK",)}, "train_sources is"),
        ({"evaluate.factory": "lrm_align.evals.guarded:evaluat"}, "did you mean lrm_align.evals.guarded:evaluate"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_slow(good, tmp_path, capsys, change, named):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "run", good, **change)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert named in line
    assert not list((tmp_path / "run").glob("*-*")), "no stage was begun"
