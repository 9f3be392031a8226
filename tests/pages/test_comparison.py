"""The report of a comparison: table, page, plot, and the same of several seeds."""

import base64
import io
import json

import pytest
import rich.console
from etils import epath

from lrm_align import report as reports
from lrm_align.pages import comparison

HOSTILE = "<script>alert(1)</script>\"'&"


def figures(attack: float, reasoning: float = 0.95, seconds: bool = True) -> dict:
    rates = dict.fromkeys(comparison.RATES, 0.0)
    rates |= {"attack_success_rate": attack, "wrapped_attack_success_rate": attack / 2, "reasoning_accuracy": reasoning}
    found = {**rates, "counts": dict.fromkeys(comparison.RATES, 100), "tokens_per_answer": 41.25}
    return found | ({"seconds": {"generation": 60.0, "training": 30.4, "other": 1.0}} if seconds else {})


def one(seed: int = 0, attack: float = 0.02) -> dict:
    methods = {"thinksafe": figures(attack), HOSTILE: figures(0.5, 0.9)}
    return {"title": "Comparison", "seed": seed, "before": figures(0.97, seconds=False), "methods": methods}


def test_the_table_has_a_row_a_subject():
    rows = comparison.rows(one())
    assert [row[0] for row in rows] == ["before", "thinksafe", HOSTILE]
    assert {len(row) for row in rows} == {len(comparison.headings())}
    assert rows[1][1] == "2.0 % [0.6, 7.0]" and rows[1][-4:] == ("41.2", "60", "30", "1")
    assert rows[0][-3:] == ("", "", "")
    output = io.StringIO()
    reports.show(one(), rich.console.Console(file=output, width=240))
    assert "thinksafe" in output.getvalue() and "95 % interval" in output.getvalue()


def test_the_page_escapes_and_names_no_host():
    page = reports.render(one())
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_written_is_a_function_of_the_report(tmp_path):
    page = reports.write(epath.Path(tmp_path), one())
    assert json.loads((tmp_path / "report.json").read_text())["methods"]["thinksafe"]["tokens_per_answer"] == 41.25
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "comparison.svg").read_bytes()
    assert b"thinksafe" in drawn and base64.b64encode(drawn).decode() in page.read_text()
    comparison.write(epath.Path(tmp_path), one())
    assert (tmp_path / "comparison.svg").read_bytes() == drawn


def test_safety_is_the_mean_of_both_kinds_of_attack():
    assert comparison.safety(figures(0.5)) == pytest.approx(37.5)


def test_seeds_are_combined():
    combined = reports.combine([one(0, 0.02), one(1, 0.04)])
    assert combined["methods"]["thinksafe"]["attack_success_rate"] == pytest.approx(0.03)
    assert combined["spread"]["thinksafe"]["attack_success_rate"] == pytest.approx(0.01414, abs=1e-4)
    assert combined["methods"]["thinksafe"]["counts"]["fact_accuracy"] == 200
    assert combined["before"]["reasoning_accuracy"] == pytest.approx(0.95) and "seconds" not in combined["before"]
    assert comparison.rows(combined)[1][1] == "3.0 % ± 1.4"
    assert "mean ± deviation over seeds" in reports.render(combined)
