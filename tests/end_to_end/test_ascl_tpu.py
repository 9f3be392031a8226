"""ASCL goes through on a CPU: tiny models of both template families that call, rightly and wrongly, by themselves."""

import copy
import json
import pathlib

import numpy as np
import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.main import main
from lrm_align.models import hf
from lrm_align.provenance import Source
from lrm_align.recipes.consulting import Consulting
from lrm_align.traces import find_shards, read_shard
from tests.end_to_end import tiny
from tests.tokenizer_families import llama3, qwen, small

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'ascl_tpu.py'}"
# What Qwen3's template does with results, in the stand-in's own words.
TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' + tools[0] | tojson + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message.tool_calls %}
        {{- '<|im_start|>assistant\\n<tool_call>\\n{"name": "rules", "arguments": {}}\\n</tool_call><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
SMALL = {
    "model.dtype": "float32",
    "mesh.fsdp": 1,
    "lora.rank": 4,
    "tool.max_result_tokens": 32,
    "sample.max_new_tokens": 96,
    "sample.max_length": 1024,
    "sample.slots": 16,
    "sample.steps_per_call": 16,
    "sample.shard_traces": 64,
    "sample.temperature": 1.0,
    "sample.top_p": 1.0,
    "sample.top_k": 0,
    "branches.balance": "all",
    "train.row_length": 1024,
    "train.chunk": 64,
    "train.batch_traces": 16,
    "train.log_every": 1,
    "judge.max_new_tokens": 8,
    "judge.max_length": 1024,
    "judge.slots": 8,
    "rl.steps": 2,
    "rl.groups": 4,
    "rl.samples": 4,
    "rl.max_refills": 4,
    "rl.lora.rank": 4,
    "rl.row_length": 1024,
    "rl.piece_rows": 4,
    "rl.max_segments": 8,
    "rl.chunk": 64,
    "rl.checkpoint_every": 1,
    "rl.sampling.max_new_tokens": 96,
    "rl.sampling.max_length": 1024,
    "rl.sampling.slots": 16,
    "rl.sampling.steps_per_call": 16,
    "guard.args.dtype": "float32",
    "guard.sharded": False,
    "evaluate.args.limit": 12,
    "evaluate.temperature": 1.0,
    "evaluate.top_p": 1.0,
    "evaluate.top_k": 0,
}
# The judge is the student itself, which says words at random: what has a b in it helps.
JUDGED = {"helpful.args.one": "b", "helpful.args.zero": "^[^b]*$"}
# A short offer, short slots, and no judge to compile.
SHORT = {
    "tool.offer": "Rules!",
    "sample.max_length": 192,
    "train.row_length": 256,
    "rl.row_length": 256,
    "rl.sampling.max_length": 192,
    "helpful.factory": "lrm_align.lab.consult:helpful",
    "helpful.args": {},
}


def arguments(workdir, student, guard, prompts, preset, **more):
    """The command line: files of prompts in place of the hub's."""

    def source(name, label, kind, limit):
        file, column = prompts[name]
        return {"path": str(file), "columns": {"text": column}, "label": label, "kind": kind, "limit": limit}

    sources = {
        "harmful": source("harmful", "harmful", "plain", 16),
        "lookalike": source("lookalike", "benign", "lookalike", 8),
        "general": source("benign", "benign", "general", 8),
    }
    evaluated = {"held_out": source("evaluated", "harmful", "plain", 8)}
    values = {
        **SMALL,
        "model.path": student,
        "guard.args.path_or_hub_id": guard,
        "prompts.args.sources": sources,
        "prompts.against": evaluated,
        "rl_prompts.args.sources": sources,
        "rl_prompts.against": evaluated,
        "evaluate.args.risky": evaluated,
        "evaluate.args.lookalike": {"lookalike": sources["lookalike"]},
        "evaluate.args.benign": {"general": sources["general"]},
        **more,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return ["main", f"{CONFIG}:{preset}", f"--workdir={workdir}", *flags]


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
        "lookalike": file("lookalike.csv", "how to kill process {}"),
        "evaluated": file("evaluated.csv", "how to do something else {}"),
    }


def real_prompts(data):
    return {
        "harmful": (data / "advbench" / "harmful_behaviors.csv", "goal"),
        "benign": (data / "dolly" / "databricks_dolly_1k.csv", "instruction"),
        "lookalike": (data / "oktest" / "OKTest.csv", "prompt"),
        "evaluated": (data / "harmbench" / "harmbench_behaviors_text_val.csv", "Behavior"),
    }


def speaking(tokenizer, template):
    """A copy of a tokenizer with a template."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def student_of(path, family, tokenizer):
    if family == "qwen3":
        return tiny.caller(path, "qwen3", tokenizer)
    return tiny.caller(path, "llama", tokenizer, "<rules>", "</rules>")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "r1"])
def test_stand_in_tokenizers(prompts, tmp_path, family):
    tokenizer = speaking(small("qwen3"), TOOLS) if family == "qwen3" else small("r1")
    student = student_of(tmp_path / "student", family, tokenizer)
    goes_through(tmp_path, student, tiny.guard(tmp_path / "guard", small("llama3")), prompts, family, **SHORT)


# With vocabularies of this size each takes minutes: CI runs one.
@pytest.mark.parametrize(
    "family", [pytest.param("qwen3", marks=pytest.mark.slow), pytest.param("r1", marks=pytest.mark.lab)]
)
def test_real_prompts_templates_and_tokenizers(shared_data, tmp_path, family):
    def template(name):
        return (shared_data / "data" / "chat_templates" / f"{name}.jinja").read_text()

    if family == "qwen3":
        tokenizer = speaking(qwen(shared_data, "qwen3"), template("Qwen-Qwen3-current"))
    else:
        tokenizer = speaking(llama3(shared_data, r1=True), template("deepseek-ai-DeepSeek-R1-Distill-Llama-8B"))
    student = student_of(tmp_path / "student", family, tokenizer)
    guard = tiny.guard(tmp_path / "guard", llama3(shared_data))
    few = {"rl.groups": 2, "rl.max_refills": 2}
    more = {"mesh.fsdp": 2, "mesh.data": 2, **few, **JUDGED}
    goes_through(tmp_path, student, guard, real_prompts(shared_data / "data"), family, **more)


def goes_through(tmp_path, student, guard, prompts, family, **more):
    """Runs everything and looks at what it left."""
    run, preset = tmp_path / "run", {"qwen3": "qwen3_0_6b", "r1": "r1_llama_8b"}[family]
    unused = hf.check(student).vocab_size - 1
    (pathlib.Path(student) / "generation_config.json").write_text(json.dumps({"eos_token_id": unused}))
    main(arguments(run, student, guard, prompts, preset, **more))
    report = json.loads((run / "report.json").read_text())
    assert {"before", "offered", "after_sft", "after", "rl"} <= report.keys()
    assert "risky_consult_rate" not in report["before"], "without the tool nothing can be consulted"
    for part in ("offered", "after_sft", "after"):
        rates = {"risky_consult_rate", "lookalike_consult_rate", "benign_consult_rate", "malformed_call_rate"}
        assert rates <= report[part].keys()
        assert report[part]["risky_consult_rate"] > 0 and report[part]["consult_rate_by_set"].keys()
    kept = report["traces"]["kept"]
    branches = ("consult", "direct")
    consulted, direct = (sum(n for name, n in kept.items() if name.endswith(f", {mode}")) for mode in branches)
    assert consulted == direct > 0, "the branches are balanced"
    curves = report["rl"]["curves"]
    assert "mode/consult" in curves and any(name.startswith("mode/consult/") for name in curves)
    assert {"reward/part/safety", "reward/part/helpful", "reward/part/format"} <= curves.keys()
    check_training_data(run, student, family)
    (exported,) = run.glob("export-*/model")
    chat = Chat.from_pretrained(str(exported))
    ends = json.loads((exported / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [unused, chat.end_of_turn_id]
    assert (
        hf.load(exported)[0].config.vocab_size and json.loads((exported / "config.json").read_text())["x_of_ours"] == 7
    )


def check_training_data(run, student, family):
    """Both branches stand under the offer; what the tool said is there, and no loss counts it."""
    chat = Chat.from_pretrained(student)
    config = json.loads((run / "run.json").read_text())["config"]
    consulting = Consulting(chat, config["tool"])
    traces = [t for shard in find_shards(epath.Path(*run.glob("filter-*")) / "sft") for t in read_shard(shard)]
    assert "INJECTED" in config["train"]["train_sources"] and "TOOL" not in config["train"]["train_sources"]
    for trace in traces:
        assert trace.prompt_ids.tolist() == consulting.prompt_ids(trace.meta["prompt"])
        found = consulting.spoken(trace)
        assert found.fault is None and found.mode == ("consult" if trace.sample == 0 else "direct")
        told = trace.source == Source.TOOL
        assert told.any() == (trace.sample == 0) and np.isnan(trace.sampler_logp[told]).all()
        if told.any():
            text = chat.decode(trace.completion_ids[told])
            opened = "<tool_response>" if family == "qwen3" else "<rules_result>"
            assert opened in text and "Judge what" in text and "[cut]" in text


MISTAKES = {
    "no rule book": ({"tool.rules": "nowhere.json"}, "no such file"),
    "an unknown form": ({"tool.form": "xml"}, "there are template, text"),
    "a form that the template lacks": ({"model.path": "r1"}, "use the form 'text'"),
    "a name that is none": ({"tool.name": "rules>"}, "a letter first"),
    "no calls": ({"tool.max_calls": 0}, "max_calls is 0"),
    "no room for a result": ({"tool.max_result_tokens": 0}, "max_result_tokens is 0"),
    "an unknown balance": ({"branches.balance": "prompt"}, "'all', 'class', 'none'"),
    "a share of everything": ({"branches.direct_share": 1.0}, "above 0 and below 1"),
    "only benign prompts": ({"prompts.args.sources": "benign"}, "none of"),
    "an unknown rule for no answer": ({"without_answer": "one"}, "'zero', 'unscored'"),
    "a reward of nobody's score": ({"reward.args.weights": {"safe": 1.0}}, "safe"),
    "a question without an answer": ({"helpful.args.template": "{request}?"}, "answer"),
    "a mode that nobody has": ({"rl.advantage_args": {"mode": "lookup"}}, "lookup"),
    "one sample a group": ({"rl.samples": 1}, "at least 2"),
    "dropout in RL": ({"rl.lora.dropout": 0.1}, "dropout"),
    "no guard": ({"guard.args.path_or_hub_id": "nowhere"}, "nowhere"),
    "an offer longer than the context": ({"sample.max_length": 32}, "longer than the context"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Directories that would go through."""
    root = tmp_path_factory.mktemp("good")
    return {
        "qwen3": student_of(root / "qwen3", "qwen3", speaking(small("qwen3"), TOOLS)),
        "r1": student_of(root / "r1", "r1", small("r1")),
        "guard": tiny.guard(root / "guard", small("llama3")),
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_status_2(good, prompts, tmp_path, capsys, mistake):
    more, says = copy.deepcopy(MISTAKES[mistake])
    if more.get("model.path") == "r1":
        more["model.path"] = good["r1"]
    if more.get("prompts.args.sources") == "benign":
        file, column = prompts["benign"]
        more["prompts.args.sources"] = {"b": {"path": str(file), "columns": {"text": column}, "label": "benign"}}
    with pytest.raises(SystemExit) as exit_:
        main(arguments(tmp_path / "run", good["qwen3"], good["guard"], prompts, "qwen3_0_6b", **more))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error, error
    assert not list(tmp_path.glob("run/*/*")), "nothing was sampled"


def test_the_dry_run_shows_offer_and_result(good, prompts, tmp_path, capsys):
    main([*arguments(tmp_path, good["qwen3"], good["guard"], prompts, "qwen3_0_6b"), "--dry_run"])
    printed = capsys.readouterr().out
    assert "<tool_response>" in printed and "…rules…" in printed and "reinforce" in printed
