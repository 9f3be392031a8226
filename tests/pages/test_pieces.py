"""The parts of pages that need no browser: harmless text, units, what a workdir holds, charts."""

import json
import unicodedata

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from etils import epath

from lrm_align.pages import book as books
from lrm_align.pages import charts, curves, rates, safe, shelves, subjects, units
from lrm_align.pages import run as runs
from lrm_align.traces import write_shard
from tests.pages import attacks, made


@hypothesis.given(st.text(st.characters(), max_size=60))
def test_shown_text_has_nothing_that_steers_or_hides(text):
    shown = safe.shown(text)
    assert all(char in "\n\t " or unicodedata.category(char)[0] not in "CZ" for char in shown)
    shown.encode()
    assert safe.shown("plain, with é, 漢 and 😀\n") == "plain, with é, 漢 and 😀\n"


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_reads_back_and_ends_no_element(value):
    written = safe.data(value)
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == value
    written.encode()


def test_units_are_letters_whatever_the_tokens_are():
    vocabulary = units.Vocabulary()
    decode = made.tokenizer().decode
    cut = units.Cutter(vocabulary, lambda ids: decode(list(ids), skip_special_tokens=False))
    text = "aé漢😀 x"
    found = cut.units(list(text.encode()))
    assert [(vocabulary.texts[n], size) for n, size in found] == [("a", 1), ("é漢😀", 9), (" ", 1), ("x", 1)]
    tower = cut.units(list(("o" + "\u0301" * 9).encode()))
    assert "".join(vocabulary.texts[n] for n, _ in tower) == "o" + "\u0301" * 4 + "\\u0301" * 5


def test_a_run_is_read_finished_or_not(tmp_path):
    workdir = epath.Path(made.finished(tmp_path / "run"))
    run = runs.read(workdir)
    assert [part.name for part in run.parts] == [""] and next(iter(run.parts[0].stages)) == "before"
    (workdir / "report.json").unlink()
    summary = json.dumps({"at": "2026", "summary": made.rates(0.5)})
    (workdir / f"before-{made.FINGERPRINT}" / "finished.json").write_text(summary)
    assert runs.read(workdir).report == {"title": "Unfinished run", "before": made.rates(0.5)}


def test_a_stage_that_was_run_again_counts_once(tmp_path):
    made.finished(tmp_path)
    newer = tmp_path / "after-9999999999"
    newer.mkdir()
    (newer / "finished.json").write_text(json.dumps({"at": "2030", "summary": {}}))
    assert runs.read(epath.Path(tmp_path)).parts[0].stages["after"] == epath.Path(newer)
    report = made.report(stages={"after": f"after-{made.FINGERPRINT}"})
    found = runs.read(epath.Path(tmp_path), report=report).parts[0].stages["after"]
    assert found.name == f"after-{made.FINGERPRINT}", "the report says which one it is about"


def test_rollouts_count_towards_the_limit(tmp_path):
    workdir = made.finished(tmp_path, count=8)
    row = json.dumps({"prompt_id": "p", "prompt": "?", "text": "a b", "reward": 1.0})
    (workdir / f"reinforce-{made.FINGERPRINT}" / "rollouts.jsonl").write_text(f"{row}\n" * 300)
    book = books.write([runs.read(epath.Path(workdir))], 40)
    assert book.shown <= 40 < book.found and any("w" in entry for entry in book.data["traces"])


def test_methods_and_seeds_are_parts(tmp_path):
    for method in ("one", "two"):
        made.finished(made.stage(tmp_path / "compared", method, {}), count=1)
    made.answered(tmp_path / "compared", "before", {"attack": [made.trace("x")]})
    found = runs.read(epath.Path(tmp_path / "compared"), report={"methods": {}})
    assert [part.name for part in found.parts] == ["before", "one", "two"]
    for seed in (0, 1):
        made.finished(tmp_path / "seeds" / f"seed_{seed}", count=1)
    seeds = runs.read(epath.Path(tmp_path / "seeds"), report={"seeds": []})
    assert [part.name for part in seeds.parts] == ["seed 0", "seed 1"]


def test_the_book_has_texts_sources_logps_verdicts_and_curves(tmp_path):
    book = books.write([runs.read(epath.Path(made.finished(tmp_path / "run")))])
    assert (book.shown, book.found) == (13, 13)
    shelf = [[s["stage"], s["set"]] for s in book.data["shelves"]]
    by_stage = {(*shelf[trace["h"]], trace["i"]): trace for trace in book.data["traces"]}
    sampled = by_stage["sample", "", "s1"]
    assert sampled["v"] == "unsafe" and sampled["s"] == {"p(unsafe)": 0.9}
    assert sampled["x"] == [[0, 4], [1, 9], [2, 6]] and sampled["c"] == [
        ["intervention scores", [[6, -0.5], [10, None], [13, 0.75]]]
    ]
    assert by_stage["before", "attack", "p0"]["v"] == "comply" and by_stage["after", "attack", "p0"]["v"] == "refuse"
    assert by_stage["reinforce", "", "r0"]["s"] == {"reward": 1.0, "advantage": 0.5, "step": 3.0, "answer": 1.0}
    assert books.stepped_in(book) == {"A method, sample, harmful: injected tokens": (4, 4)}


def test_verdicts_of_an_evaluation_stand_with_its_traces(tmp_path):
    place = made.stage(tmp_path, "xstest", {})
    write_shard(
        place, "traces-00000", [made.trace("no", prompt_id="a"), made.trace("yes", prompt_id="b", sample=1)], "x"
    )
    judged = made.stage(tmp_path, "xstest-verdicts", {"metric": "over_refusal_rate"})
    rows = [{"id": "a", "sample": 0, "value": 1.0, "parts": {"rule": 2.0}}, {"id": "b", "sample": 1, "value": None}]
    (judged / "verdicts-00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    book = books.write([runs.read(epath.Path(tmp_path), report=made.report())])
    first, second = book.data["traces"]
    assert (first["v"], first["s"]) == ("refuse", {"rule": 2.0, "judge": 1.0}) and second["v"] == "undecided"


def test_no_more_traces_than_a_page_carries(tmp_path):
    run = runs.read(epath.Path(made.finished(tmp_path / "run", count=12)))
    book = books.write([run], traces=16)
    counts = np.bincount([trace["h"] for trace in book.data["traces"]])
    assert book.found == 37 and book.shown <= 16 and min(counts) >= 1
    ids = [{t["i"] for t in book.data["traces"] if t["h"] == shelf} for shelf in (0, 1)]
    assert ids[0] == ids[1], "the same prompts of both models"
    assert books.write([run], tokens=400).shown < 20


def test_side_by_side_has_a_column_a_model(tmp_path):
    found = []
    for name, attack in (("one", 0.9), ("two", 0.5)):
        report = made.report(before=made.rates(attack))
        found.append(runs.read(epath.Path(made.finished(tmp_path / name, report)), name))
    compared = subjects.of(found)
    assert [subject.name for subject in compared] == ["one: before", "one: after", "two: before", "two: after"]
    assert compared[2].cell("attack_success_rate") == "50.0 % [40.4, 59.6]"
    names = [figure.name for figure in charts.figures(found, [s for run in found for s in shelves.of(run, False)], {})]
    assert names == ["rates", "safety_reasoning", "drop_reasons", "training", "lengths", "rewards"]


def test_intervals_of_several_samples_are_the_evaluations_own():
    result = {"set": "aime24", "metric": "accuracy", "interval": [0.1, 0.7]}
    report = {"after": {"aime24_accuracy": 0.4, "counts": {"aime24_accuracy": 30}}, "evaluation": {"results": [result]}}
    assert rates.rows(report) == [("aime24_accuracy", "40.0 % [10.0, 70.0]", "30")]


def test_panels_leave_out_what_nobody_looks_at(tmp_path):
    found = curves.panels([runs.read(epath.Path(made.finished(tmp_path / "run")))])
    assert list(found) == ["loss"] and len(found["loss"][0].steps) == 20
    assert all(np.isfinite(found["loss"][0].values))


def test_the_attacks_are_many():
    assert len(set(attacks.ALL)) == len(attacks.ALL) > 75


def test_the_depth_plot_and_injection_rates_have_bars():
    class Axes(list):
        def __getattr__(self, name):
            return lambda *args, **given: self.append((name, args, given))

    class Canvas:
        def __init__(self):
            self.axes = Axes()

        def subplots(self):
            return self.axes

    curve = {"depth": [[0, 0.9], [1, 0.0], [2, 0.0]], "counts": [40, 40, 0]}
    did = {"attack": {"injection_rate": 0.8, "unscored_rate": 0.0, "counts": {"injection_rate": 50}}}
    report = made.report(depth=curve, after={**made.rates(0.0), "interventions": did})
    run = runs.Run("run", epath.Path("."), report, {}, [])
    canvas = Canvas()
    charts.depth([run]).draw(canvas)
    [(_, (steps, _), given)] = [call for call in canvas.axes if call[0] == "errorbar"]
    assert steps == [0, 1] and given["yerr"][1][1] > 5, "0 of 40 is no certainty, and of nothing there is no point"
    canvas = Canvas()
    charts.signs(subjects.of([run]), {}).draw(canvas)
    [(_, (_, values), given)] = [call for call in canvas.axes if call[0] == "barh"]
    assert values == [80.0, 0.0] and given["xerr"][0][0] > 5 and given["xerr"][1] == [pytest.approx(8.76, abs=1), 0.0]
