"""A comparison: two tiny methods with what they share, what each cost, and how it goes on after an interruption."""

import json

import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import resolve
from lrm_align.errors import UserError
from lrm_align.lab import CHECKPOINT
from lrm_align.provenance import Source
from lrm_align.recipes import compare, measuring
from lrm_align.recipes import stage as stages_
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.stage import Stage
from lrm_align.traces import ShardWriter, Trace

CALLS: list[str] = []


def answered(directory: epath.Path, config: ConfigDict, tokens: int) -> dict:
    """What an evaluation leaves: traces by set, and answers."""
    trace = Trace([1], [2] * tokens, [Source.SAMPLED] * (tokens - 1) + [Source.TOOL], [-1.0] * (tokens - 1) + [np.nan])
    with ShardWriter(directory / "attack", "x", flush_every=8) as writer:
        writer.add(trace)
    (directory / "attack.answers.jsonl").write_text("{}\n")
    return {"attack_success_rate": 0.5, "counts": {"attack_success_rate": 1}, "asked": measuring.arguments(config)}


def method(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """A method that leaves what real ones leave, in no time."""

    def before(directory, inputs):
        raise AssertionError("the model as it is is measured by the comparison")

    def sample(directory, inputs):
        CALLS.append(f"{config.word} samples")
        with ShardWriter(directory, "x", flush_every=8) as writer:
            writer.add(Trace([1], [2], [Source.SAMPLED], [-1.0]))
        return {}

    def reinforce(directory, inputs):
        CALLS.append(f"{config.word} learns")
        if config.word == "broken":
            raise KeyboardInterrupt
        row = {"step": 0, "step_s": 10.0, "time/rollout": 0.5, "time/grading": 0.1, "time/train": 0.4}
        (directory / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return {}

    def after(directory, inputs):
        return answered(directory, config, 5)

    stages = [
        Stage("before", {}, before),
        Stage("sample", {"word": config.word}, sample),
        Stage("reinforce", {}, reinforce, ("sample",)),
        Stage("after", {}, after, ("reinforce",)),
    ]
    return Recipe("A method", stages, ["a fact"], lambda summaries, directories: {})


@pytest.fixture
def config(tmp_path, monkeypatch) -> ConfigDict:
    CALLS.clear()
    (tmp_path / "method.py").write_text(
        f"""
from ml_collections import ConfigDict
def get_config(word="first"):
    return ConfigDict({{"recipe": "{__name__}:method", "seed": 9, "seeds": 1, "word": word,
        "model": {{"path": {str(CHECKPOINT)!r}, "dtype": "float32", "param_dtype": "", "remat": "none",
            "attention": "auto"}},
        "evaluate": {{"args": {{"attack": 7, "more": 1}}, "table_args": {{}}, "temperature": 0.0, "top_p": 1.0,
            "top_k": 0}}}})
"""
    )
    monkeypatch.setattr(measuring, "run", lambda directory, student, config, more: answered(directory, config, 4))
    drawing = {"min_p": 0.0, "max_new_tokens": 4, "slots": 1, "max_length": 8, "steps_per_call": 1, "shard_traces": 1}
    return ConfigDict(
        {
            "seed": 3,
            "seeds": 1,
            "model": {
                "path": str(CHECKPOINT),
                "dtype": "float32",
                "param_dtype": "",
                "remat": "none",
                "attention": "auto",
            },
            "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
            "compared": ("one", "two"),
            "methods": {
                "two": {"config": f"{tmp_path / 'method.py'}:second", "changes": {}},
                "one": {"config": str(tmp_path / "method.py"), "changes": {"word": "changed"}},
            },
            "sample": drawing,
            "evaluate": {
                "factory": "lrm_align.lab:evaluate",
                "args": {"attack": 2},
                "table_args": {},
                "temperature": 0.6,
                "top_p": 1.0,
                "top_k": 0,
            },
        }
    )


def run(config: ConfigDict, workdir: epath.Path) -> dict:
    recipe = compare.recipe(config, workdir)
    summaries = stages_.run(recipe.stages, workdir, log=lambda line: None)
    return recipe.report(summaries, {})


def test_two_methods_share_the_evaluation_and_report_their_costs(config, tmp_path):
    report = run(config, epath.Path(tmp_path / "run"))
    assert list(report["methods"]) == ["one", "two"]
    assert CALLS == ["changed samples", "changed learns", "second samples", "second learns"]
    assert report["before"]["tokens_per_answer"] == 3.0, "what a tool said is not the model's"
    for found in report["methods"].values():
        assert found["asked"] == {"attack": 2, "more": 1} and found["tokens_per_answer"] == 4.0
        assert found["seconds"]["generation"] == pytest.approx(6.0, abs=0.5)
        assert found["seconds"]["training"] == pytest.approx(4.0, abs=0.5)


def test_the_settings_of_a_method_are_checked_as_those_of_a_run(config, tmp_path):
    config.methods.one.changes = {"model": {"remat": "sometimes"}}
    with pytest.raises(
        UserError, match=r"^config\.methods\.one: config\.model\.remat is 'sometimes'; it must be one of"
    ):
        compare.recipe(config, epath.Path(tmp_path / "run"))


def test_a_finished_method_is_skipped_and_an_interrupted_one_goes_on(config, tmp_path):
    workdir = epath.Path(tmp_path / "run")
    config.methods.two.changes = {"word": "broken"}
    with pytest.raises(KeyboardInterrupt):
        run(config, workdir)
    with pytest.raises(KeyboardInterrupt):
        run(config, workdir)
    assert CALLS == ["changed samples", "changed learns", "broken samples", "broken learns", "broken learns"]
    CALLS.clear()
    config.methods.two.changes = {}
    assert set(run(config, workdir)["methods"]) == {"one", "two"}
    assert CALLS == ["second samples", "second learns"]


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c.update(compared=("one", "three")), "compared is"),
        (lambda c: c.update(compared=("one", "one")), "each once"),
        (lambda c: c.update(compared=()), "compared is"),
        (lambda c: c.methods.one.update(changes={"wrod": "x"}), "changes: unknown key 'wrod'"),
        (lambda c: c.methods.one.update(changes={"evaluate": {"tmp": 1}}), "changes.evaluate: unknown key 'tmp'"),
        (lambda c: c.methods.one.update(config="nowhere.py"), "config file not found"),
        (lambda c: c.model.update(dtype="bfloat16"), "all methods start from one model"),
    ],
)
def test_mistakes_are_named_before_anything_runs(config, tmp_path, change, says):
    with config.unlocked():
        change(config)
    with pytest.raises(UserError, match=says):
        compare.recipe(config, epath.Path(tmp_path / "run"))
    assert not CALLS


def test_its_recipe_is_found_by_its_path():
    assert resolve("lrm_align.recipes.compare:recipe") is compare.recipe
