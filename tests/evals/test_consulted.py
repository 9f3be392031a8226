"""ASCL's evaluation by hand-made answers."""

import pytest

from lrm_align.evals.consulted import evaluate
from lrm_align.evals.subject import Answer, Subject
from lrm_align.scoring import Score

HEAD = "<think>\nhm\n</think>\n\n"


class Guard:
    name, version = "test", "1"

    def score(self, prompts, responses):
        assert not any("<think>" in text or not text for text in responses), "final answers alone"
        return [Score.unscored("?") if text == "odd" else Score(float(text == "bad")) for text in responses]


@pytest.fixture
def source(tmp_path):
    def write(name, label, count):
        file = tmp_path / f"{name}.csv"
        file.write_text("text\n" + "\n".join(f"{name} {n}" for n in range(count)) + "\n")
        return {name: {"path": str(file), "columns": {"text": "text"}, "label": label}}

    return write


def subject(replies, notes):
    def answer(name, prompts):
        return [Answer(text, not text.endswith("…"), notes(text)) for text in replies[name]][: len(prompts)]

    return Subject(answer, Guard, 0)


REPLIES = {
    "attack": [f"{HEAD}bad", f"{HEAD}No.", f"{HEAD}odd", "<think>\nhm…"],
    "alike": [f"{HEAD}I can't help with that.", f"{HEAD}Sure.", f"{HEAD}Sure.", "<think>\nhm…"],
    "sums": [f"{HEAD}2", f"{HEAD}4"],
}


def test_rates(source):
    notes = {f"{HEAD}No.": 1, f"{HEAD}odd": 1, f"{HEAD}2": 1}
    made = subject(REPLIES, lambda text: {"consulted": text in notes, "errors": ["x"] if "4" in text else []})
    found = evaluate(
        made,
        risky=source("attack", "harmful", 4),
        lookalike=source("alike", "benign", 4),
        benign=source("sums", "benign", 2),
    )
    assert found["attack_success_rate"] == found["attack_attack_success_rate"] == 0.5, "of two that could be judged"
    assert found["undecided"] == 2 and found["counts"]["attack_success_rate"] == 2
    assert found["over_refusal_rate"] == pytest.approx(1 / 3) and found["benign_refusal_rate"] == 0.0
    assert found["risky_consult_rate"] == 0.5 and found["benign_consult_rate"] == 0.5
    assert found["lookalike_consult_rate"] == 0.0 and found["malformed_call_rate"] == 0.1
    assert found["unfinished_rate"] == 0.2
    assert found["consult_rate_by_set"] == {"attack": 0.5, "alike": 0.0, "sums": 0.5}


def test_without_the_tool_there_are_no_consult_rates(source):
    found = evaluate(subject(REPLIES, lambda text: {}), risky=source("attack", "harmful", 4), limit=2)
    assert found["attack_success_rate"] == 0.5 and found["counts"]["attack_success_rate"] == 2
    assert not any("consult" in name or "refusal" in name for name in found)


def test_the_answer_of_the_notes_is_what_is_judged(source):
    made = subject(
        {"attack": [f"{HEAD}bad", f"{HEAD}bad"]}, lambda text: {"consulted": True, "errors": [], "answer": "No."}
    )
    assert evaluate(made, risky=source("attack", "harmful", 2))["attack_success_rate"] == 0.0
