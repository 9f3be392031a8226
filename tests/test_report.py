"""The report's page is plain, closed and escapes what models wrote."""

import json

import pytest
from etils import epath

from lrm_align import report as reports
from lrm_align.pages import rates

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)></pre>"


def one(seed=0, before=0.9):
    names = ("attack_success_rate", "reasoning_accuracy")
    return {
        "title": f"T {HOSTILE}",
        "config": "quickstart",
        "seed": seed,
        "model": "lab",
        "before": {"attack_success_rate": before, "reasoning_accuracy": 0.95, "counts": dict.fromkeys(names, 100)},
        "after": {"attack_success_rate": 0.0, "reasoning_accuracy": 0.94, "counts": dict.fromkeys(names, 100)},
        "steered_attack_success_rate": 0.05,
        "traces": {"kept": {"harmful": 5}, "dropped": {"harmful: unsafe": 2}},
        "losses": [(1, 2.0), (2, 1.0)],
        "examples": [{"title": "a prompt", "before": HOSTILE, "after": "fine"}],
    }


def page_of(report):
    """The page with every figure and its interval in one piece."""
    return reports.render(report).replace("</span> <span>", " ")


def test_page_escapes_and_names_no_host():
    page = reports.render(one())
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "90.0 %" in page and "5 harmful" in page and "2 harmful: unsafe" in page


def test_a_rate_of_nothing_is_no_zero():
    report = one()
    report["after"]["counts"]["attack_success_rate"] = 0
    assert "nothing to count" in reports.render(report)


def test_seeds_in_which_nothing_was_counted_are_in_no_mean():
    nothing = one(1)
    nothing["after"]["counts"] = {**nothing["after"]["counts"], "reasoning_accuracy": 0}
    nothing["after"]["reasoning_accuracy"] = 0.0
    assert reports.combine([one(0), nothing])["after"]["reasoning_accuracy"] == 0.94


def test_an_audit_of_no_attack_is_no_zero():
    page = reports.render({**one(), "risk_identification_rate": 0.0, "risk_identification_count": 0})
    assert "of successful attacks: nothing to count" in page
    assert "50.0 % [" in reports.render({**one(), "risk_identification_rate": 0.5, "risk_identification_count": 8})


def test_samples_of_a_prompt_are_named_with_the_rate():
    found = {"set": "sums", "metric": "accuracy", "estimate": "avg@4", "interval": [0.4, 0.6]}
    report = {"title": "E", "measured": {"sums_accuracy": 0.5, "counts": {"sums_accuracy": 30}}}
    assert reports.rows({**report, "evaluation": {"results": [found]}}) == [
        ("sums_accuracy (avg@4)", "50.0 % [40.0, 60.0]", "30")
    ]


def test_the_depth_curve_has_intervals_and_seeds_their_deviation():
    reported = [{**one(seed), "depth": {"depth": [[0, rate], [2, 0.0]], "counts": [40, 0]}} for seed, rate in
                enumerate((0.9, 0.7))]  # fmt: skip
    says = next(fact for fact in rates.facts(reported[0]) if "early steps" in fact)
    assert "0: 90.0 % [76.9, 96.0], 2: nothing to count" in says
    combined = reports.combine(reported)
    (_, rate, bounds), (_, none, _) = rates.depth(combined)
    assert rate == pytest.approx(0.8) and bounds == pytest.approx((0.8 - 0.1414, 0.8 + 0.1414), abs=1e-4)
    assert none is None and combined["depth"]["counts"] == [80, 0]
    assert rates.depth({"depth": {"depth": [[0, 0.5]]}}) == [(0, 0.5, None)], "a report of old"


def test_written_files_read_back(tmp_path):
    page = reports.write(epath.Path(tmp_path), one())
    assert page.name == "report.html"
    assert json.loads((tmp_path / "report.json").read_text())["before"]["attack_success_rate"] == 0.9


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError):
        reports.write(epath.Path(tmp_path), {**one(), "losses": [(1, float("nan"))]})


def test_seeds_are_combined():
    combined = reports.combine([one(0, 0.9), one(1, 0.7)])
    assert combined["before"]["attack_success_rate"] == pytest.approx(0.8)
    assert combined["spread"]["before"]["attack_success_rate"] == pytest.approx(0.1414, abs=1e-4)
    assert combined["before"]["counts"]["reasoning_accuracy"] == 200
    assert combined["traces"] == {"kept": {"harmful": 10}, "dropped": {"harmful: unsafe": 4}}
    assert "80.0 % ± 14.1" in page_of(combined)


def two_stages(seed=0, middle=0.3):
    report = one(seed)
    names = ("attack_success_rate", "trigger_rate_risky")
    report["after_sft"] = {
        "attack_success_rate": middle,
        "trigger_rate_risky": 0.875,
        "counts": dict.fromkeys(names, 100),
    }
    return {**report, "risk_identification_rate": 0.99}


def test_a_method_of_two_stages_has_a_column_more():
    assert reports.parts(one()) == ["before", "after"] and reports.parts(two_stages()) == [
        "before",
        "after_sft",
        "after",
    ]
    rows = {row[0]: row[1:] for row in reports.rows(two_stages())}
    assert rows["attack_success_rate"][1].startswith("30.0 %") and len(rows["attack_success_rate"]) == 4
    assert rows["trigger_rate_risky"][0] == "-" and rows["trigger_rate_risky"][1].startswith("87.5 %")
    page = reports.render(two_stages())
    assert "<th>after sft</th>" in page and "99.0 %" in page


def test_seeds_of_two_stages_are_combined():
    combined = reports.combine([two_stages(0, 0.3), two_stages(1, 0.1)])
    assert combined["after_sft"]["attack_success_rate"] == pytest.approx(0.2)
    assert combined["spread"]["risk_identification_rate"] == 0.0 and combined["risk_identification_rate"] == 0.99
    assert "20.0 % ± 14.1" in page_of(combined)


def levelled(seed=0, correlation=0.5):
    report = one(seed)
    for half in ("before", "after"):
        report[half]["length_rank_correlation"] = correlation
        report[half]["counts"]["length_rank_correlation"] = 300
    disjoint = {"hash": "SHA-256", "trained": {"prompts": 7}, "evaluated": {"attack": 5}, "shared": 0}
    return {**report, "disjoint": disjoint}


def test_a_correlation_is_no_percentage():
    rows = {row[0]: row[1:] for row in reports.rows(levelled())}
    assert rows["length_rank_correlation"] == ("0.50", "0.50", "300")
    rows = {row[0]: row[1:] for row in reports.rows(reports.combine([levelled(0, 0.4), levelled(1, 0.6)]))}
    assert rows["length_rank_correlation"] == ("0.50 ± 0.14", "0.50 ± 0.14", "600")


def test_the_page_says_that_nothing_is_shared():
    assert "that the evaluation asks: 0 (of 7 in prompts; asked are 5 in attack" in reports.render(levelled())
    combined = reports.combine([levelled(0), levelled(1)])
    assert combined["disjoint"]["trained"] == {"prompts": 14} and combined["disjoint"]["shared"] == 0


def test_main_wants_a_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        reports.main(["report", str(tmp_path)])
    assert exit_.value.code == 2 and "report.json" in capsys.readouterr().err
