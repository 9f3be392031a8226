"""A whole evaluation of the organism: what it keeps, how it goes on, and what its numbers are."""

import json
import pathlib
import re

import numpy as np
import pytest

from lrm_align import config as config_
from lrm_align import evaluate
from lrm_align.errors import UserError
from lrm_align.recipes import evaluating
from lrm_align.scoring import Score
from lrm_align.traces import find_shards, read_shard

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "evaluate_lab.py"
SMALL = [
    "--config.sets.plain.args.count=6",
    "--config.sets.wrapped.args.count=4",
    "--config.sets.lookalike.args.count=4",
    "--config.sets.arithmetic.args.count=3",
    "--config.sets.arithmetic.samples=2",
    "--config.sample.slots=16",
    "--config.sample.lanes=1",
    "--config.answers.seconds=60.0",
]


class Refusing:
    """A judge that will not judge."""

    name, version = "refusing", "1"

    def score(self, prompts, responses):
        return [Score.unscored("the judge declined: I'm sorry") for _ in prompts]


class Short(Refusing):
    """A judge that loses one."""

    def score(self, prompts, responses):
        return [Score(0.0)] * (len(prompts) - 1)


def run(workdir, *more: str) -> dict:
    evaluate.main(["evaluate", f"--config={CONFIG}", f"--workdir={workdir}", *SMALL, *more])
    return json.loads((workdir / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluation")
    run(directory)
    return directory


def stages(workdir, pattern):
    return sorted(path for path in workdir.glob(pattern) if path.is_dir())


def test_results_say_how_they_came_about(workdir):
    results = {
        one["set"]: one for one in json.loads((workdir / "evaluation.json").read_text())["evaluation"]["results"]
    }
    assert {name: one["metric"] for name, one in results.items()} == {
        "plain": "attack_success_rate",
        "wrapped": "attack_success_rate",
        "lookalike": "over_refusal_rate",
        "arithmetic": "accuracy",
    }
    for one in results.values():
        assert one["sampling"]["temperature"] == 0.6 and one["sampling"]["samples"] == one["samples"]
        assert one["judge"] and one["part"] in ("all", "answer") and one["prompts_hash"]
        assert one["interval"][0] <= one["rate"] <= one["interval"][1]
    assert results["plain"]["judge"] == "lab rules 1" and results["plain"]["rate"] > 0.5
    sums = results["arithmetic"]
    assert sums["responses"] == 6 and set(sums["pass_at_k"]) == {"1", "2"} and sums["rate"] > 0.5


def test_every_prompt_response_and_verdict_is_kept(workdir):
    [directory] = stages(workdir, "plain-verdicts-*")
    rows = [json.loads(line) for line in (directory / "verdicts-00000.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all(row["prompt"] and "</think>" in row["text"] for row in rows)
    assert all(row["value"] in (0.02, 0.98) and row["parts"] for row in rows)
    [sums] = stages(workdir, "arithmetic-verdicts-*")
    rows = [json.loads(line) for line in (sums / "verdicts-00000.jsonl").read_text().splitlines()]
    assert [(row["sample"], row["answer"] is not None) for row in rows] == [(0, True), (1, True)] * 3


def test_it_goes_on_where_it_was_and_another_judge_needs_no_sampling(workdir, capsys):
    before = (workdir / "evaluation.json").read_text()
    [verdicts] = stages(workdir, "plain-verdicts-*")
    (verdicts / "finished.json").unlink()
    file = verdicts / "verdicts-00000.jsonl"
    file.write_text(file.read_text()[:-20])  # a kill cut it short
    run(workdir)
    assert (workdir / "evaluation.json").read_text() == before
    said = capsys.readouterr().err
    assert "plain, judging: 6 of 6 responses" in said and said.count("judging") == 1 and "traces," not in said
    found = run(workdir, "--config.part=answer", "--sets=plain")["evaluation"]["results"]
    said = capsys.readouterr().out
    assert [one["part"] for one in found] == ["answer"] and "[plain] finished before" in said
    assert len(stages(workdir, "plain-verdicts-*")) == 2


def test_a_judge_that_refuses_to_judge_gives_no_rate(workdir, capsys):
    factory = f"--config.guard.factory={__name__}:Refusing"
    found = run(workdir, factory, "--sets=plain")
    [one] = found["evaluation"]["results"]
    assert one["rate"] is None and one["undecided"] == {"the judge declined": 6}
    assert found["measured"] == {"counts": {}}
    said = capsys.readouterr().out
    assert "nothing judged" in said and "plain: in no rate: 6 the judge declined" in said


@pytest.mark.slow
def test_perplexity_is_that_of_the_recorded_probabilities(workdir):
    [traces] = stages(workdir, "plain-[0-9a-f]*")
    config = config_.load(str(CONFIG))
    with config.unlocked():
        config.sets = {}
        config.perplexity.sets = {"own": str(traces)}
    [stage] = evaluating.recipe(config, workdir).stages
    found = stage.run(workdir, {})
    logp = np.concatenate([trace.model_logp for shard in find_shards(traces) for trace in read_shard(shard)])
    assert found["perplexity"] == pytest.approx(np.exp(-logp.mean()), rel=1e-4)
    assert found["tokens"] == logp.size and found["traces"] == 6 and found["interval"][0] <= found["perplexity"]
    spans = {}
    for span in ("thought", "answer", "all"):
        config.perplexity.span = span
        spans[span] = evaluating.recipe(config, workdir).stages[0].run(workdir, {})
    assert spans["thought"]["tokens"] + spans["answer"]["tokens"] == found["tokens"] < spans["all"]["tokens"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sets=plain,plian"], "--sets names plian; this config has"),
        (["--config.sets.plain.aim=worse"], "config.sets.plain: aim 'worse'"),
        (["--config.sets.plain.aim=answer"], r"no meta\['answer'\]"),
        (["--config.sets.plain.benchmark=strongreject"], "give either benchmark"),
        (["--config.part=thinking"], "part 'thinking'"),
        (["--config.refusal.factory=guard", "--sets=lookalike"], "does not judge refusals"),
        (["--config.perplexity.span=words"], "span 'words'"),
        (["--config.guard.factory=" + __name__ + ":Short", "--sets=plain"], "gave 5 scores for 6"),
        (["--config.answers.seconds=0.0"], "config.answers"),
    ],
)
def test_mistakes_end_in_one_line(workdir, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        run(workdir, *arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and re.search(message, error)


def test_other_configs_are_refused(tmp_path, capsys):
    quickstart = CONFIG.with_name("quickstart.py")
    with pytest.raises(SystemExit) as exit:
        evaluate.main(["evaluate", f"--config={quickstart}", f"--workdir={tmp_path}"])
    assert exit.value.code == 2 and "no evaluation" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        evaluate.main(["evaluate", "--help"])
    assert exit.value.code == 0 and "--sets" in capsys.readouterr().out


def test_configs_of_the_papers_benchmarks_resolve():
    for preset in ("thinksafe", "all", "quick", "qwen3guard", "wildguard"):
        config = config_.load(f"{CONFIG.with_name('evaluate.py')}:{preset}")
        assert config.sets and all(set(one) == set(evaluating.one_set()) for one in config.sets.values())
    with pytest.raises(UserError, match="a set has no pth"):
        evaluating.one_set("gsm8k", pth="x")
