"""RAPO's TPU config goes through on a CPU with tiny models of both template families; mistakes end in one line."""

import json
import pathlib

import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.main import main
from lrm_align.provenance import Source
from lrm_align.traces import find_shards, read_shard
from tests.end_to_end import tiny
from tests.tokenizer_families import small

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'rapo_tpu.py'}"
SMALL = {
    "model.dtype": "float32",
    "mesh.fsdp": 1,
    "lora.rank": 4,
    "rl.lora.rank": 4,
    "sample.max_new_tokens": 24,
    "sample.max_length": 1024,
    "sample.slots": 16,
    "sample.steps_per_call": 8,
    "sample.temperature": 1.0,  # greedy, these models never end
    "analysis.min_characters": 3,
    "continuation.sampling.max_new_tokens": 64,
    "train.row_length": 1024,
    "train.chunk": 64,
    "train.batch_traces": 8,
    "train.epochs": 1,
    "train.checkpoint_every": 2,
    "judge.max_new_tokens": 16,
    "judge.max_length": 2048,
    "judge.slots": 16,
    "rl.steps": 2,
    "rl.groups": 2,
    "rl.samples": 2,
    "rl.sampling.max_new_tokens": 16,
    "rl.sampling.max_length": 128,
    "rl.sampling.slots": 16,
    "rl.sampling.steps_per_call": 8,
    "rl.row_length": 128,
    "rl.piece_rows": 2,
    "rl.chunk": 64,
    "rl.checkpoint_every": 2,
    "guard.args.dtype": "float32",
    "guard.sharded": False,
    "evaluate.args.limit": 4,
    "evaluate.temperature": 1.0,
    "evaluate.top_p": 1.0,
    "evaluate.top_k": 0,
}


def source(file, label, level=None):
    given = {} if level is None else {"given": {"level": level}}
    return {"path": str(file), "columns": {"text": "text"}, "label": label, **given}


def first(good, harmful):
    """The prompts of stage 1."""
    return {
        "benign": source(good["benign"], "benign"),
        "level_1": source(harmful, "harmful", 1),
        "level_3": source(good["nested"], "harmful", 3),
    }


def arguments(workdir, good, preset="qwen3_0_6b", **more):
    """The command line: files of prompts in place of the hub's."""
    values = {
        **SMALL,
        "model.path": good["student"],
        "guard.args.path_or_hub_id": good["guard"],
        "prompts.args.sources": first(good, good["harmful"]),
        "rl_prompts.args.sources": {
            "jailbreak": source(good["adversarial"], "harmful"),
            "benign": source(good["benign"], "benign"),
        },
        "prompts.against": {"held_out": source(good["evaluated"], "harmful")},
        "rl_prompts.against": {"held_out": source(good["evaluated"], "harmful")},
        "evaluate.args.sources": {"held_out": source(good["evaluated"], "harmful")},
        "evaluate.args.levelled": {
            "one": source(good["evaluated"], "harmful", 1),
            "two": source(good["levelled"], "harmful", 2),
        },
        **more,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return ["main", f"{CONFIG}:{preset}", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run that goes through: prompts of our own, stand-in tokenizers."""
    root = tmp_path_factory.mktemp("good")

    def file(name, text, count=24):
        rows = [text.format(number) for number in range(count)]
        (root / f"{name}.csv").write_text("text\n" + "\n".join(rows) + "\n")
        return root / f"{name}.csv"

    texts = {
        "benign": "tell me about thing {}",
        "harmful": "how to do thing {}",
        "nested": "in a play about a play do thing {}",
        "adversarial": "pretend to do thing {}",
        "evaluated": "how to do something else {}",
        "levelled": "pretend to do something else {}",
    }
    files = {name: file(name, text) for name, text in texts.items()}
    # One of the prompts is asked by the evaluation, too.
    with files["harmful"].open("a") as stream:
        stream.write("How to do something  else 3!\n")
    student = tiny.trigger(root / "student", "qwen3", small("qwen3"))
    return {**files, "student": student, "guard": tiny.guard(root / "guard", small("llama3"))}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "r1"])
def test_goes_through(good, tmp_path, family):
    if family == "r1":
        good = {**good, "student": tiny.trigger(tmp_path / "student", "llama", small("r1"))}
    main(arguments(tmp_path / "run", good))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for part in ("before", "after_sft", "after"):
        assert -1 <= report[part]["length_rank_correlation"] <= 1
        assert {"attack_success_rate", "held_out_attack_success_rate"} <= report[part].keys()
    kept, dropped = report["traces"]["kept"], report["traces"]["dropped"]
    assert sum(kept.values()) + sum(dropped.values()) == 72 and kept["harmful"] and kept["benign"]
    assert report["disjoint"]["shared"] == 0
    assert report["disjoint"]["removed"]["config.prompts"] == {"held_out": 1}
    assert report["disjoint"]["trained"] == {"config.prompts": 72, "config.rl_prompts": 48}
    # This judge babbles: every finished sample with an answer and an analysis is unscored, and nothing stops.
    [metrics] = (tmp_path / "run").glob("reinforce-*/metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 2


@pytest.mark.slow
def test_stage_one_makes_training_data(good, tmp_path):
    """The bare prompt; the thought opened by the analysis, which was put there; then what was sampled."""
    short = {
        "analysis.system": "Write {length}.",
        "analysis.user": "{prompt}",
        "sample.max_length": 96,
        "continuation.sampling.max_new_tokens": 48,
        "rl.sampling.max_length": 96,
    }
    main([*arguments(tmp_path / "run", good, **short), "--stages=assemble"])
    first = {t.key: t for shard in find_shards(*(tmp_path / "run").glob("analyse-*")) for t in read_shard(shard)}
    [directory] = (tmp_path / "run").glob("assemble-*/sft")
    traces = [trace for shard in find_shards(epath.Path(directory)) for trace in read_shard(shard)]
    chat = Chat.from_pretrained(good["student"])
    assert {trace.meta["level"] for trace in traces} == {1, 3}
    for trace in traces:
        assert trace.prompt_ids.tolist() == chat.prompt_ids(trace.meta["prompt"])
        count = int((trace.source == Source.INJECTED).sum())
        assert (trace.source[:count] == Source.INJECTED).all() and (trace.source[count:] == Source.SAMPLED).all()
        analysis = chat.split_thinking(chat.completion_text(first[trace.key].completion_ids))[1]
        opening = f"<think>\nOkay, {' '.join(analysis.split())}\n\n"
        assert chat.decode(trace.completion_ids[:count]) == opening


@pytest.mark.slow
def test_rated_levels_and_a_guard(good, tmp_path):
    """A judge that babbles rates nothing, so that benign prompts alone are left; the guard looks at them."""
    flags = {"levels.source": "judged", "filter.guarded": True}
    main([*arguments(tmp_path / "run", good, **flags), "--stages=assemble"])
    [stamp] = (tmp_path / "run").glob("assemble-*/finished.json")
    counts = json.loads(stamp.read_text())["summary"]
    assert counts["dropped"]["harmful: no level"] == 48 and counts["kept"].keys() == {"benign"}
    assert counts["guard"] != "none"


@pytest.mark.slow
def test_a_training_prompt_that_is_evaluated_ends_the_run(good, tmp_path, capsys):
    shared = {"prompts.against": {}, "prompts.args.sources": first(good, good["evaluated"])}
    with pytest.raises(SystemExit) as exit_:
        main([*arguments(tmp_path / "run", good, **shared), "--stages=disjoint"])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and "are asked by the evaluation set" in error, error


MISTAKES = {
    "an unknown source of levels": ({"levels.source": "guessed"}, "levels.source"),
    "lengths that do not ascend": ({"levels.table.lengths": "((2, 4), (3, 8))"}, "not longer than level 1"),
    "a template without its field": ({"analysis.system": "Write."}, "length"),
    "an opening without an end": ({"analysis.opening": "Okay, {analysis}"}, "blank line"),
    "several samples in a pass": ({"sample.samples": 2}, "1 sample a prompt"),
    "unknown truncation": ({"judge.truncated": "empty"}, "judge.truncated"),
    "a judge that does not exist": ({"judge.risk.factory": "lrm_align.scoring.judge:sane"}, "same"),
    "a reward of something else": ({"reward.args.weights": "{'safety': 1.0}"}, "safety"),
    "no guard": ({"guard.args.path_or_hub_id": "nowhere"}, "nowhere"),
    "dropout in RL": ({"rl.lora.dropout": 0.1}, "dropout"),
    "one sample a group": ({"rl.samples": 1}, "at least 2"),
    "no harmful prompt in stage 2": (None, "is harmful"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_status_2(good, tmp_path, capsys, mistake):
    more, says = MISTAKES[mistake]
    if more is None:
        more = {"rl_prompts.args.sources": {"benign": source(good["benign"], "benign")}}
    with pytest.raises(SystemExit) as exit_:
        main(arguments(tmp_path / "run", good, **more))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error, error
    assert not list(tmp_path.glob("run/*/*")), "nothing was sampled"


def test_every_preset_describes_itself(good, tmp_path, capsys):
    for preset in ("qwen3_1_7b", "qwen3_8b", "qwen3_8b_lora", "r1_qwen_1_5b"):
        main([*arguments(tmp_path / "run", good, preset), "--dry_run"])
        out = capsys.readouterr().out
        assert "48 of level 1, 24 of level 3; told 1: 2-4 sentences, 2: 5-8 sentences, 3: at least 9" in out
        assert "Okay, …analysis…" in out and not (tmp_path / "run").exists()
