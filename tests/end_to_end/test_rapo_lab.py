"""RAPO goes through on the organism, both stages; judges that fail leave samples unscored and the run alive."""

import json
import pathlib

import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.main import main
from lrm_align.models import hf
from lrm_align.provenance import Source
from lrm_align.scoring import rapo
from lrm_align.scoring.sentences import count_sentences
from lrm_align.traces import find_shards, read_shard

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'lab_rapo.py'}"
SMALL = {
    "prompts.args.plain": 6,
    "prompts.args.wrapped": 5,
    "prompts.args.nested": 5,
    "prompts.args.benign": 6,
    "prompts.args.arithmetic": 4,
    "prompts.args.fact": 0,
    "rl_prompts.args.plain": 2,
    "rl_prompts.args.wrapped": 2,
    "rl_prompts.args.nested": 2,
    "rl_prompts.args.benign": 2,
    "sample.slots": 16,
    "train.epochs": 1,
    "rl.steps": 2,
    "rl.groups": 4,
    "rl.sampling.slots": 16,
    "rl.checkpoint_every": 2,
    "judge.slots": 16,
    "evaluate.args": {"attack": 8, "wrapped": 6, "nested": 6, "lookalike": 6, "arithmetic": 4, "fact": 2},
}


def run(workdir, preset="rapo", **more):
    flags = [f"--config.{key}={value}" for key, value in {**SMALL, **more}.items()]
    main(["main", f"{CONFIG}:{preset}", f"--workdir={workdir}", *flags])
    return json.loads((workdir / "report.json").read_text())


@pytest.mark.lab
def test_both_stages(tmp_path):
    report = run(tmp_path)
    for part in ("before", "after_sft", "after"):
        assert {"attack_success_rate", "nested_attack_success_rate", "length_rank_correlation"} <= report[part].keys()
    assert abs(report["before"]["length_rank_correlation"]) < 0.5
    kept = report["traces"]["kept"]
    assert kept["harmful"] >= 14 and kept["benign"] >= 8
    lengths = report["traces"]["lengths"]
    assert lengths["1"] < 4 < lengths["2"] < 7 < lengths["3"], "analyses are as long as their level"
    check_training_data(tmp_path)
    assert report["disjoint"]["shared"] == 0 and report["disjoint"]["evaluated"]["nested"] == 6
    assert report["disjoint"]["trained"] == {"config.prompts": 26, "config.rl_prompts": 8}
    [rows] = tmp_path.glob("reinforce-*/rollouts.jsonl")
    scores = [json.loads(line)["scores"] for line in rows.read_text().splitlines()]
    assert all(set(one) == {"risk", "general"} for one in scores)
    assert {"reward/part/risk", "reward/part/general"} <= report["reinforcement"]["curves"].keys()
    [exported] = tmp_path.glob("export-*/model")
    hf.check(epath.Path(exported))


def check_training_data(workdir):
    """The bare prompt; the thought opened by the analysis, which was put there; then what was sampled."""
    [model] = workdir.glob("export_sft-*/model")
    chat = Chat.from_pretrained(str(model))
    [directory] = workdir.glob("assemble-*/sft")
    traces = [trace for shard in find_shards(epath.Path(directory)) for trace in read_shard(shard)]
    for trace in traces:
        assert trace.prompt_ids.tolist() == chat.prompt_ids(trace.meta["prompt"])
        injected = trace.source == Source.INJECTED
        if trace.meta["level"] == 0:
            assert not injected.any(), "sums are answered without analysis"
            continue
        count = int(injected.sum())
        assert injected[:count].all() and not injected[count:].any()
        opening = chat.decode(trace.completion_ids[:count])
        assert opening.startswith("<think>\nOkay, ") and opening.endswith("\n\n")
        analysis = rapo.parse(chat.completion_text(trace.completion_ids)).analysis
        assert analysis == opening.removeprefix("<think>\n").strip()
        assert count_sentences(analysis) in {1: range(2, 4), 2: range(4, 7), 3: range(8, 99)}[trace.meta["level"]]


def babble(ask):
    """A judge that gives no verdict."""
    return lambda conversations: ["I like it, 1 of 1." for _ in conversations]


def gone(ask):
    """A judge that cannot be reached."""

    def judge(conversations):
        raise ConnectionError("nobody there")

    return judge


@pytest.mark.lab
@pytest.mark.parametrize("judge", ["babble", "gone"])
def test_a_judge_that_fails_costs_its_samples_alone(tmp_path, judge, capsys):
    factory = f"{__name__}:{judge}"
    run(tmp_path, **{"judge.harmful.factory": factory, "judge.harmful.args": {}, "rl.steps": 4})
    [metrics] = tmp_path.glob("reinforce-*/metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert all(0 < row["samples/unscored"] < 1 for row in rows), "benign prompts have another judge"
    assert all(row["unscored/general"] == row["samples/unscored"] for row in rows)
