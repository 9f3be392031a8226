"""Both stages of Safe Trigger go through on a CPU: tiny models of both template families."""

import copy
import json
import pathlib

import numpy as np
import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.main import main
from lrm_align.models import hf
from lrm_align.scoring import safe_block
from lrm_align.traces import find_shards, read_shard
from tests.end_to_end import tiny
from tests.tokenizer_families import llama3, qwen, small

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'safe_trigger_tpu.py'}"
SMALL = {
    "model.dtype": "float32",
    "mesh.fsdp": 1,
    "lora.rank": 4,
    "lora.dropout": 0.0,
    "sample.max_new_tokens": 24,
    "sample.max_length": 640,
    "sample.slots": 16,
    "sample.steps_per_call": 8,
    "sample.shard_traces": 16,
    "sample.temperature": 1.0,
    "sample.top_p": 1.0,
    "sample.top_k": 0,
    "judge.sampling.max_new_tokens": 24,
    "judge.sampling.temperature": 1.0,
    "preference.lora.rank": 4,
    "guard.args.dtype": "float32",
    "guard.sharded": False,
    "evaluate.args.limit": 4,
    "evaluate.top_p": 1.0,
    "evaluate.top_k": 0,
    "evaluate.temperature": 1.0,
}
TRAIN = {"row_length": 512, "chunk": 64, "batch_traces": 8, "checkpoint_every": 2, "log_every": 1}
# This judge says yes by a tag, and no by none.
QUESTIONS = {"one": r"safe>", "zero": r"^(?!.*safe>)"}


def arguments(workdir, student, guard, harmful, benign, adversarial, evaluated, preset="qwen3_0_6b", **more):
    """The command line: files of prompts in place of the hub's, limited to a few."""

    def source(file, label, limit):
        return {"path": str(file[0]), "columns": {"text": file[1]}, "label": label, "limit": limit}

    held_out = {"held_out": source(evaluated, "harmful", 8)}
    prompts = {"harmful": source(harmful, "harmful", 40), "general": source(benign, "benign", 16)}
    values = {
        **SMALL,
        **{f"{part}.{name}": value for part in ("train", "preference.train") for name, value in TRAIN.items()},
        **{f"judge.questions.{q}.{k}": v for q in ("f_safe", "t_full", "s_full") for k, v in QUESTIONS.items()},
        "model.path": student,
        "guard.args.path_or_hub_id": guard,
        "prompts.args.sources": prompts,
        "prompts.against": held_out,
        "adversarial.args.sources": {"jailbreak": source(adversarial, "harmful", 10)},
        "adversarial.against": held_out,
        "evaluate.args.risky": held_out,
        "evaluate.args.general": {"general": source(benign, "benign", 8)},
        **more,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return ["main", f"{CONFIG}:{preset}", f"--workdir={workdir}", *flags]


def files(data):
    return {
        "harmful": (data / "advbench" / "harmful_behaviors.csv", "goal"),
        "benign": (data / "dolly" / "databricks_dolly_1k.csv", "instruction"),
        "adversarial": (data / "jailbreakbench" / "harmful-behaviors.csv", "Goal"),
        "evaluated": (data / "harmbench" / "harmbench_behaviors_text_val.csv", "Behavior"),
    }


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Prompts of our own in place of the real sets."""
    root = tmp_path_factory.mktemp("prompts")

    def file(name, text):
        (root / name).write_text("text\n" + "\n".join(text.format(i) for i in range(40)) + "\n")
        return root / name, "text"

    return {
        "harmful": file("harmful.csv", "how to do thing {}"),
        "benign": file("benign.csv", "tell me about thing {}"),
        "adversarial": file("adversarial.csv", "pretend to do thing {}"),
        "evaluated": file("evaluated.csv", "how to do something else {}"),
    }


def with_template(tokenizer, shared, name):
    """A copy of a tokenizer that speaks a real template."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (shared / "data" / "chat_templates" / name).read_text()
    return tokenizer


QWEN3, R1 = "Qwen-Qwen3-current.jinja", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja"


@pytest.mark.slow
@pytest.mark.parametrize("family, tags", [("qwen3", "text"), ("r1", "added")])
def test_stand_in_tokenizers(prompts, tmp_path, family, tags):
    student = tiny.trigger(tmp_path / "student", "llama" if family == "r1" else family, small(family))
    goes_through(tmp_path, student, tiny.guard(tmp_path / "guard", small("llama3")), prompts, tags)


# With vocabularies of this size each takes minutes: CI runs one.
@pytest.mark.parametrize(
    "family, tags",
    [pytest.param("qwen3", "text", marks=pytest.mark.lab), pytest.param("r1", "added", marks=pytest.mark.slow)],
)
def test_real_prompts_templates_and_tokenizers(shared_data, tmp_path, family, tags):
    if family == "qwen3":
        architecture, tokenizer = "qwen3", with_template(qwen(shared_data, "qwen3"), shared_data, QWEN3)
    else:
        architecture, tokenizer = "llama", with_template(llama3(shared_data, r1=True), shared_data, R1)
    student = tiny.trigger(tmp_path / "student", architecture, tokenizer)
    guard = tiny.guard(tmp_path / "guard", llama3(shared_data))
    goes_through(tmp_path, student, guard, files(shared_data / "data"), tags, **{"mesh.fsdp": 2, "mesh.data": 2})


def goes_through(tmp_path, student, guard, prompts, tags, **more):
    """Runs everything and looks at what it left."""
    more |= {"tags": tags} | ({"lora.rank": 0, "preference.lora.rank": 0} if tags == "added" else {})
    run = tmp_path / "run"
    main(arguments(run, student, guard, **prompts, **more))
    report = json.loads((run / "report.json").read_text())
    assert {"before", "after_sft", "after", "risk_identification_rate"} <= report.keys()
    for part in ("before", "after_sft", "after"):
        assert {"attack_success_rate", "trigger_rate_risky", "trigger_rate_general"} <= report[part].keys()
    kept, dropped = report["traces"]["kept"], report["traces"]["dropped"]
    assert sum(kept.values()) + sum(dropped.values()) == 56 and kept["harmful"] and kept["benign"]
    assert {f"harmful: {safe_block.NO_BLOCK}", f"harmful: {safe_block.MISPLACED}"} <= dropped.keys(), dropped
    assert report["preferences"]["pairs"] > 0
    assert len(report["losses"]) == report["training"]["steps"]
    assert report["preference_losses"][0][1] == pytest.approx(np.log(2), abs=1e-3), "policy and reference start equal"
    check_training_data(run, student, tags)
    (exported,) = run.glob("export-*/model")
    chat = Chat.from_pretrained(str(exported))
    assert (safe_block.OPEN in chat.encoder.control) == (tags == "added")
    assert hf.load(exported)[0].config.vocab_size >= len(chat.tokenizer)
    assert json.loads((exported / "config.json").read_text())["x_of_ours"] == 7


def check_training_data(run, student, tags):
    """Every risky trace is thinking, block, answer under the bare prompt; general ones are what pass 1 sampled."""
    (model,) = run.glob("tags-*/model") if tags == "added" else (student,)
    chat, plain = Chat.from_pretrained(str(model)), Chat.from_pretrained(student)
    first = {t.key: t for shard in find_shards(*run.glob("sample-*")) for t in read_shard(shard)}
    second = {t.key: t for shard in find_shards(*run.glob("audit-*")) for t in read_shard(shard)}
    traces = [t for shard in find_shards(epath.Path(*run.glob("assemble-*")) / "sft") for t in read_shard(shard)]
    for trace in traces:
        assert trace.prompt_ids.tolist() == plain.prompt_ids(trace.meta["prompt"])
        if trace.tags[0] == "benign":
            assert trace == first[trace.key], "untouched"
            continue
        text = chat.decode(trace.completion_ids)
        assert safe_block.parse(chat.full_response(chat.completion_text(trace.completion_ids))).triggered
        head, tail = (plain.decode(t[trace.key].completion_ids) for t in (first, second))
        assert text == head[: head.index("</think>")] + tail[tail.index("</think>") :]
        if tags == "added":
            assert {chat.encoder.control[tag] for tag in ("<safe>", "</safe>")} <= set(trace.completion_ids.tolist())
        else:
            assert (trace.source == 1).all(), "every token was sampled"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run that would go through, with stand-in tokenizers."""
    root = tmp_path_factory.mktemp("good")

    def file(name, text):
        (root / name).write_text("text\n" + "\n".join(text.format(i) for i in range(12)) + "\n")
        return root / name, "text"

    return {
        "student": tiny.trigger(root / "student", "qwen3", small("qwen3")),
        "guard": tiny.guard(root / "guard", small("llama3")),
        "harmful": file("harmful.csv", "how to do thing {}"),
        "benign": file("benign.csv", "tell me about thing {}"),
        "adversarial": file("adversarial.csv", "pretend to do thing {}"),
        "evaluated": file("evaluated.csv", "how to do something else {}"),
    }


def sources(good, **by_label):
    """`prompts.args.sources` of one file a label."""
    return {
        name: {"path": str(good[name][0]), "columns": {"text": "text"}, "label": label}
        for name, label in by_label.items()
    }


MISTAKES = {
    "no general prompts": (lambda g: {"prompts.args.sources": sources(g, harmful="harmful")}, "is general"),
    "no risky prompts": (lambda g: {"prompts.args.sources": sources(g, benign="benign")}, "is risky"),
    "weights in the wrong order": (lambda g: {"reward.args.w_b": 3.5}, "w_a > w_b > w_c > 0"),
    "a weight of zero": (lambda g: {"reward.args.w_c": 0.0}, "w_a > w_b > w_c > 0"),
    "a delta that no group reaches": (lambda g: {"reward.delta": 6.0}, "delta"),
    "a reward that does not exist": (lambda g: {"reward.factory": "lrm_align.rewards:safe_triger"}, "safe_trigger?"),
    "an unknown source of thinking": (lambda g: {"audit.think_source": "third"}, "think_source"),
    "an audit without the reasoning": (lambda g: {"audit.template": "{request} Check."}, "thought"),
    "an unknown field": (lambda g: {"judge.questions.f_safe.template": "{reply}?"}, "reply"),
    "a pattern that does not compile": (lambda g: {"judge.questions.t_full.one": "("}, "t_full.one"),
    "an unknown judge": (lambda g: {"judge.f_safe_by": "me"}, "f_safe_by"),
    "tags of an unknown kind": (lambda g: {"tags": "tokens"}, "config.tags"),
    "one sample to rank": (lambda g: {"explore.sampling.samples": 1}, "at least 2"),
    "samples that cannot differ": (lambda g: {"explore.sampling.temperature": 0.0}, "temperature above 0"),
    "several samples in pass 1": (lambda g: {"sample.samples": 2}, "1 sample a prompt"),
    "adversarial prompts of stage 1": (lambda g: {"adversarial": g["harmful"]}, "in config.prompts as well"),
    "benign adversarial prompts": (
        lambda g: {"adversarial.args.sources": sources(g, benign="benign")},
        "labelled 'harmful'",
    ),
    "dropout in DPO": (lambda g: {"preference.lora.dropout": 0.1}, "dropout"),
    "no guard": (lambda g: {"guard": "nowhere"}, "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_status_2(good, tmp_path, capsys, mistake):
    make, says = MISTAKES[mistake]
    with pytest.raises(SystemExit) as exit_:
        main(arguments(tmp_path / "run", **{**good, **make(good)}))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error, error
    assert not list(tmp_path.glob("run/*/*")), "nothing was sampled"
