"""What a prefix search found, on the terminal and on the page, whatever a candidate's text is."""

import io

import pytest
import rich.console

from lrm_align import report as reports

FIGURES = {"gain": 1.5, "gain_error": 0.1, "kl": 0.5, "kl_error": 0.05, "safe_rate": 1.0, "unscored_rate": 0.0}


def report(texts, given):
    rows = [
        {"text": text, "tokens": 2, **FIGURES, "objective": 1.4, "front": not i, "given": text in given}
        for i, text in enumerate(texts)
    ]
    found = {"candidates": rows, "kl_weight": 0.1, "places": {"harmful": 3, "benign": 4}, "stage": "confirm"}
    return {"title": "Search", "prefix_search": {**found, "searched": len(texts)}}


def shown(one):
    stream = io.StringIO()
    reports.show(one, rich.console.Console(file=stream, width=160))
    return stream.getvalue()


def test_the_table_holds_the_best_and_every_given_text():
    one = report([f"word {i}" for i in range(60)], {"word 55"})
    for text in (shown(one), reports.render(one)):
        assert "word 0" in text and "word 55 (given)" in text and "word 54" not in text and "1.50 ± 0.10" in text
        assert "3 harmful and 4 benign prompts, on prompts that chose nothing" in text


@pytest.mark.parametrize("text", ["[bold]x", "<script>x</script>", "a\x1b[31mb"])
def test_a_hostile_candidate_is_text(text):
    one = report([text], {text})
    assert "<script>x" not in reports.render(one)
    on_terminal = shown(one)
    assert "\x1b" not in on_terminal and ("[bold]x" in on_terminal or "[bold]" not in text)
