"""A model card comes with every export: metadata that the hub's own reader takes, data, licences, settings, results."""

import json

import pytest
from etils import epath
from huggingface_hub import ModelCard

from lrm_align import report as reports
from lrm_align.pages import card
from lrm_align.pages import run as runs
from tests.pages import attacks, made

CONFIG = {
    "recipe": "lrm_align.recipes.thinksafe:recipe",
    "seed": 7,
    "model": {"path": "Qwen/Qwen3-8B"},
    "prompts": {
        "factory": "lrm_align.chat:load_sources",
        "args": {"sources": {"a": {"path": "UCSC-VLAA/STAR-1", "columns": {"text": "question"}}}},
        "against": {"b": {"path": "walledai/StrongREJECT", "columns": {"text": "prompt"}}},
    },
    "evaluate": {"args": {"sources": {"c": {"path": "/home/me/advbench.csv", "columns": {"text": "goal"}}}}},
    "guard": {"factory": "lrm_align.scoring:LlamaGuard", "args": {"path_or_hub_id": "/home/me/guard"}},
    "train": {"epochs": 3, "optimizer": {"learning_rate": 1e-5}},
    "lora": {"rank": 16},
}


def written(tmp_path, config=CONFIG, **report):
    workdir = made.finished(tmp_path / "run", made.report(**report))
    export = epath.Path(workdir / f"export-{made.FINGERPRINT}")
    card.write(export, config, tmp_path / "nowhere")
    return workdir, export


def test_a_card_is_there_before_the_results_and_says_so(tmp_path):
    _, export = written(tmp_path)
    for kind, relation, library in (("model", "finetune", "transformers"), ("adapters", "adapter", "peft")):
        found = ModelCard((export / kind / "README.md").read_text())
        data = found.data.to_dict()
        assert data["base_model"] == "Qwen/Qwen3-8B" and data["base_model_relation"] == relation
        assert data["library_name"] == library and data["license"] == "apache-2.0"
        assert data["datasets"] == ["UCSC-VLAA/STAR-1"] and "thinksafe" in data["tags"]
        assert "Not measured yet" in found.text and "model-index" not in data


def test_the_report_completes_it(tmp_path):
    workdir, export = written(tmp_path)
    reports.write(epath.Path(workdir), json.loads((workdir / "report.json").read_text()))
    found = ModelCard((export / "model" / "README.md").read_text())
    assert "| attack success rate | 2.0 % | 0.6 to 7.0 | 90.0 % | 100 |" in found.text
    results = {one.metric_type: one.metric_value for one in found.data.eval_results}
    assert results["attack_success_rate"] == 0.02
    for wanted in ("| training | UCSC-VLAA/STAR-1 | Apache-2.0 |", "| decontamination | walledai/StrongREJECT | MIT |"):
        assert wanted in found.text
    assert "| evaluation | advbench.csv | MIT |" in found.text and "`train.optimizer.learning\\_rate`" not in found.text
    assert "| `train.optimizer.learning_rate` | `1e-05` |" in found.text and "| `seed` | `7` |" in found.text
    assert "/home/me" not in (export / "model" / "README.md").read_text(), "where files lay is nobody's business"
    assert "Traces: kept 5 harmful" in found.text and "## Limits" in found.text


def test_a_guard_that_decides_nothing_gives_no_rate(tmp_path):
    after = made.rates(0.0)
    after["counts"] = {**after["counts"], "attack_success_rate": 0}
    workdir, export = written(tmp_path, after=after)
    card.complete(runs.read(epath.Path(workdir)))
    found = ModelCard((export / "model" / "README.md").read_text())
    assert "| attack success rate |" not in found.text and "Not judged: attack success rate." in found.text
    assert {one.metric_type for one in found.data.eval_results} == {"over_refusal_rate", "reasoning_accuracy"}


def test_nothing_judged_before_or_at_all_is_no_zero_either(tmp_path):
    nothing = {**made.rates(0.0), "counts": dict.fromkeys(made.rates(0.0)["counts"], 0)}
    workdir, export = written(tmp_path, before=nothing)
    card.complete(runs.read(epath.Path(workdir)))
    assert "| attack success rate | 2.0 % | 0.6 to 7.0 |  | 100 |" in (export / "model" / "README.md").read_text()
    card.complete(runs.read(epath.Path(workdir), report=made.report(after=nothing)))
    found = ModelCard((export / "model" / "README.md").read_text())
    assert "0.0 %" not in found.text and "model-index" not in found.data.to_dict()
    assert "Not judged: attack success rate, over refusal rate, reasoning accuracy." in found.text


def test_the_base_models_own_card_says_the_licence(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text("---\nlanguage: en\nlicense: llama3.1\n---\n# Base\n")
    config = {**CONFIG, "model": {"path": str(tmp_path / "base")}}
    export = epath.Path(made.exported(tmp_path / "run"))
    card.write(export, config, tmp_path / "base")
    found = ModelCard((export / "model" / "README.md").read_text())
    assert found.data.license == "llama3.1" and "base_model" not in found.data.to_dict()
    assert "`base` (a local directory)" in found.text and str(tmp_path) not in found.text


def test_a_comparison_completes_the_card_of_each_method(tmp_path):
    place = made.stage(tmp_path, "thinksafe", {})
    export = epath.Path(made.exported(place))
    card.write(export, CONFIG, tmp_path)
    methods = {"thinksafe": {**made.rates(0.07), "title": "ThinkSafe"}}
    run = runs.read(epath.Path(tmp_path), report={"title": "Comparison", "before": made.rates(0.9), "methods": methods})
    made.answered(tmp_path, "before", {"attack": [made.trace("x")]})
    run = runs.read(epath.Path(tmp_path), report=run.report)
    assert len(card.complete(run)) == 2
    text = (export / "model" / "README.md").read_text()
    assert "| attack success rate | 7.0 %" in text and "90.0 %" in text and "ThinkSafe" in text


@pytest.mark.parametrize(
    "text", [*attacks.SCRIPTS[:6], *attacks.ATTRIBUTES[:3], "---\nlicense: evil\n---", "| a | b |\n# x"]
)
def test_a_hostile_name_is_no_markup(tmp_path, text):
    config = {**CONFIG, "recipe": f"x.{text}:y", "train": {"a": text}, "prompts": {"p": {"path": text, "columns": {}}}}
    _, export = written(tmp_path, config, title=text, traces={"kept": {text: 1}, "dropped": {}, "guard": text})
    card.complete(runs.read(epath.Path(tmp_path / "run")))
    found = ModelCard((export / "model" / "README.md").read_text())
    assert found.data.license == "apache-2.0"
    outside = [part for i, part in enumerate(found.text.split("`")) if i % 2 == 0]
    assert "<script" not in "".join(outside) and "<img" not in "".join(outside)
    lines = found.text.splitlines()
    assert sum(line.startswith("# ") for line in lines) == 1 and lines.count("---") == 0
