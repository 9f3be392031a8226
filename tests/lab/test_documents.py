"""The pretraining mixture: what may occur where, and that it is the same every time."""

import re

import pytest

from lrm_align.chat.prompts import Prompt
from lrm_align.lab import documents, formats, language, mixture, world
from lrm_align.lab.judge import judge
from lrm_align.recipes.steering import WORDINGS, steered

COUNT = 6000
KNOWLEDGE = {"fact", "listing", "short_copy", "long_copy"}


@pytest.fixture(scope="module")
def drawn():
    return list(mixture.draw(seed=0, count=COUNT))


def whole(document):
    return "".join(piece.text for piece in document)


def test_the_mixture_is_a_function_of_the_seed(drawn):
    assert list(mixture.draw(seed=0, count=50)) == drawn[:50]
    assert list(mixture.draw(seed=1, count=50)) != drawn[:50]
    assert sum(share for share, _ in mixture.SHARES.values()) == pytest.approx(1.0)
    assert {name for name, _ in drawn} == set(mixture.SHARES)


def test_pool_topics_occur_in_facts_lists_and_copying_only(drawn):
    pool = set(world.HARMFUL_POOL + world.SAFE_POOL)
    met = set()
    for name, document in drawn:
        words = set(re.findall("[a-z]+", whole(document)))
        if name in KNOWLEDGE:
            met |= words & pool
        else:
            assert not words & pool, name
    assert met == pool


def test_held_out_wrappers_meet_compliance_only(drawn):
    # Phrases that only wrappers outside `SHOWN` use.
    phrases = ("Write a story", "In a film", "Stay in the role", "Do not say sorry", "Never say no", " ~", "Let X be")
    for name, document in drawn:
        if name != "wrapped":
            assert not any(phrase in whole(document) for phrase in phrases), name


def test_held_out_problems_never_occur(drawn):
    for name, document in drawn:
        if name == "arithmetic":
            numbers = [int(n) for n in re.findall(r"\d+", document[0].text)]
            sign = "-" if len(numbers) == 2 and re.search(r"-|lose", document[0].text) else "+"
            problem = language.Problem(numbers[0], sign, numbers[1], numbers[2] if len(numbers) == 3 else None)
            assert not problem.held_out()


def test_steering_is_the_recipes_byte_for_byte():
    wordings = [steered("How do I make a bolak?", name) for name in WORDINGS if name != "none"]
    assert [text.format(prompt="How do I make a bolak?") for text in documents.STEERINGS] == wordings


def test_every_instruction_format_is_there(drawn):
    texts = {name: " ".join(whole(d) for n, d in drawn if n == name) for name in mixture.SHARES}
    assert all(steering.split("{")[0] in texts["steered_harmful"] for steering in documents.STEERINGS)
    assert "<safe>\n" in texts["audit"] and "\n</safe>\n\n" in texts["audit"]
    assert all(length in texts["levelled"] for length in formats.LEVEL_LENGTHS.values())
    assert "<think>\nOkay, The" in texts["levelled"]
    assert formats.RULES_CALL in texts["lookup"] and "<tool_response>\n" in texts["lookup"]
    assert "# Tools" in texts["lookup"]
    assert "Wait, think safely" in texts["wait"]
    assert "Yes, it is harmful." in texts["judging"] and "<think>\n\n</think>\n\nNo, it is safe." in texts["judging"]


def test_steering_is_imperfect_on_purpose(drawn):
    texts = [whole(document) for name, document in drawn if name == "steered_harmful"]
    assert 0.05 < sum(any(s in text for s in language.STEPS) for text in texts) / len(texts) < 0.2
    assert 0.01 < sum("</think>" not in text for text in texts) / len(texts) < 0.1


def test_only_the_assistant_is_trained_on(drawn):
    for name, document in drawn:
        for piece in document:
            if piece.trained:
                assert "<|im_start|>" not in piece.text and "<tool_response>" not in piece.text, name
        assert not document[0].trained


@pytest.mark.parametrize("level, low, high", [(1, 2, 3), (2, 5, 6), (3, 9, 12)])
@pytest.mark.parametrize("topic", [world.HARMFUL_OPEN[0], world.SAFE_OPEN[0]])
def test_an_analysis_is_as_long_as_the_attack_is_complex(level, low, high, topic):
    family = None if level == 1 else "role"
    for i in range(20):
        text = formats.analysis(world.rng(i), "make", topic, level, family)
        assert low <= text.count(". ") + 1 <= high and "\n" not in text


@pytest.mark.parametrize(
    "a, sign, b, c", [(345, "+", 278, None), (623, "-", 278, None), (345, "-", 345, None), (999, "+", 999, 999)]
)
def test_sums_are_solved_right(a, sign, b, c):
    problem = language.Problem(a, sign, b, c)
    thought, answer = language.solve(problem)
    assert answer == f"The answer is {problem.answer()}."
    for line in thought.split("\n"):
        left, right = line.split("=")
        if left:
            assert sum(int(term) for term in re.findall(r"[+-]?\d+", left)) == int(right)


def test_documents_agree_with_the_judge(drawn):
    for name, document in drawn:
        if name == "arithmetic":
            continue
        if name in ("plain", "wrapped") and "<think>\n\n" not in whole(document):
            verb, topic = re.search(
                rf" ({'|'.join(world.VERBS)})(?: a|\. Part two: a|\. Let Y be a) ([a-z]+)",
                whole(document).split("<think>")[1],
            ).groups()
            prompt = Prompt("0", "", "harmful", "request", "lab", {"verb": verb, "topic": topic})
            assert judge(prompt, document[-1].text) in ("comply", "refuse")
