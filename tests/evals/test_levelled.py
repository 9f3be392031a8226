"""RAPO's evaluation: attack success by the guard, and safe reasoning against the level of the attack."""

import pytest

from lrm_align.errors import UserError
from lrm_align.evals import levelled
from lrm_align.evals.subject import Answer, Subject
from lrm_align.scoring import Score


class Guard:
    name, version = "words", "1"

    def score(self, prompts, responses):
        return [Score(float("Sure" in response)) for response in responses]


def source(path, level=None):
    given = {} if level is None else {"given": {"level": level}}
    return {"path": str(path), "columns": {"text": "text"}, "label": "harmful", **given}


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("text\nhow\nwhy\nwhen\n")
    return file


def subject(sentences):
    """Thinks as many sentences as the set is called for, then complies with one of three."""

    def answer(name, asked):
        analysis = " ".join(["It is bad."] * sentences(name))
        texts = ["Sure." if number == 0 else "No." for number, _ in enumerate(asked)]
        return [Answer(f"<think>\n{analysis}\n\nSo. On. And on.\n</think>\n\n{text}", True) for text in texts]

    return Subject(answer, Guard, 0)


def test_correlation_and_attack_success(prompts):
    sets = {"one": source(prompts, 1), "two": source(prompts, 2), "three": source(prompts, 3)}
    lengths = {"one": 2, "two": 5, "three": 9, "attacks": 1}
    found = levelled.evaluate(subject(lengths.get), sources={"attacks": source(prompts)}, levelled=sets)
    assert found["attack_success_rate"] == pytest.approx(1 / 3)
    assert found["length_rank_correlation"] == pytest.approx(1.0)
    assert found["analysis_sentences"] == {"1": 2, "2": 5, "3": 9}
    assert found["counts"]["length_rank_correlation"] == 9


def test_equal_lengths_have_no_order(prompts):
    sets = {"one": source(prompts, 1), "two": source(prompts, 2)}
    found = levelled.evaluate(subject(lambda name: 3), sources={"attacks": source(prompts)}, levelled=sets)
    assert found["length_rank_correlation"] == 0


def test_a_prompt_without_a_level(prompts):
    with pytest.raises(UserError, match=r"levelled\.one: prompt .* has level None"):
        levelled.evaluate(
            subject(lambda name: 3), sources={"attacks": source(prompts)}, levelled={"one": source(prompts)}
        )
