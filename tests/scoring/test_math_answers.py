r"""Answers against known ones: every gold of MATH-500 and GSM8K, hostile expressions, limits off the main thread."""

import json
import re
import threading
import time

import pytest

from lrm_align.errors import UserError
from lrm_align.scoring import math_answers, math_text
from lrm_align.scoring.math_answers import Checker
from tests.scoring.answer_variants import perturbed, rewritten

TOWER = "9^{9^{9^{9^9}}}"


@pytest.fixture(scope="module")
def checker():
    with Checker(seconds=60.0) as checker:  # workers of a test run wait for a processor, too
        yield checker


def math(shared_data) -> list[str]:
    lines = (shared_data / "data/math500/test.jsonl").read_text().splitlines()
    return [json.loads(line)["answer"] for line in lines]


def needs_algebra(gold: str) -> bool:
    plain = math_text.normal(gold)
    return math_text.rational(plain) is None and math_text.words(plain) is None


def wrong(checker, pairs):
    """The pairs that are not judged as they should be: (gold, other, right)."""
    verdicts = checker.compare([pair[:2] for pair in pairs])
    return [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.right != pair[2]]


def test_golds_of_math_500_match_themselves_and_numbers_match_their_rewrites_alone(checker, shared_data):
    golds = math(shared_data)
    assert len(golds) == 500
    for number, gold in enumerate(golds):
        math_answers.check_gold(gold, f"row {number}")
    assert not wrong(checker, [(gold, gold, True) for gold in golds])
    simple = [gold for gold in golds if not needs_algebra(gold)]
    pairs = [(gold, other, True) for gold in simple for other in set(rewritten(gold))]
    pairs += [(gold, other, False) for gold in simple for other in set(perturbed(gold))]
    pairs = [pair for pair in pairs if "x" not in pair[1] and "pi" not in pair[1] and "," not in pair[1]]
    assert not wrong(checker, pairs) and len(pairs) > 5000


@pytest.mark.parametrize("gold", [r"3\sqrt{13}", "(3,4]", "1,-2", r"1 \pm \sqrt{19}", "x^3+3x-6", "4210_{5}"])
def test_expressions(checker, gold):
    pairs = [(gold, other, True) for other in dict.fromkeys(rewritten(gold))]
    pairs += [(gold, other, False) for other in list(dict.fromkeys(perturbed(gold)))[:6]]
    assert not wrong(checker, pairs)


@pytest.mark.slow
def test_all_golds_of_math_500_match_their_rewrites_and_nothing_else(shared_data):
    golds = math(shared_data)
    pairs = [(gold, other, True) for gold in golds for other in dict.fromkeys(rewritten(gold))]
    pairs += [(gold, other, False) for gold in golds for other in dict.fromkeys(perturbed(gold))]
    with Checker(60.0, workers=2) as both:
        assert not wrong(both, pairs) and len(pairs) > 10_000


def test_golds_of_gsm8k_match_their_rewrites_and_nothing_else(checker, shared_data):
    rows = [json.loads(line) for line in (shared_data / "data/gsm8k/test.jsonl").read_text().splitlines()]
    golds = [row["answer"].split("####")[1].strip().replace(",", "") for row in rows]
    assert len(golds) == 1319
    golds_of, responses, wanted = [], [], []
    for gold in golds:
        value = int(gold)
        commas = rf"\boxed{{\${value:,}}}"
        right = [
            rf"So she pays \boxed{{{value}}} dollars.", f"... makes 3 and 4.\n#### {value:,}", commas,
            f"The final answer is ${value}.", f"**Answer: {value}**", rf"\boxed{{{value}.00}}",
            f"5 of them make {value}", f"**The answer is:** {value}",
            rf"\boxed{{{value}\text{{ miles}}}}", f"The answer is {value} apples.", rf"\boxed{{x = {value}}}",
        ]  # fmt: skip
        others = {value + 1, value - 1, value * 10 if value else 3, -value if value else 4, value + 1000}
        off = [rf"\boxed{{{other}}}" for other in others] + [f"The answer is {value}.5", f"#### {value}1", "none"]
        golds_of += [gold] * (len(right) + len(off))
        responses += [f"<think>\nIs it {value + 7}? \\boxed{{{value + 7}}}\n</think>\n\n{text}" for text in right + off]
        wanted += [1.0] * len(right) + [0.0] * len(off)
    found = [score.value for score in checker.score(golds_of, responses)]
    bad = [(g, r) for g, r, a, b in zip(golds_of, responses, found, wanted, strict=True) if a != b]
    assert not bad


def judged(checker, gold, texts):
    """The texts that are judged right."""
    scores = checker.score([gold] * len(texts), [f"<think>\n?\n</think>\n\n{text}" for text in texts])
    return [text for text, score in zip(texts, scores, strict=True) if score.value == 1.0]


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("42", "The answer is 42 dollars for 3 apples."),
        ("18", "The answer is $18 per day for 2 days."),
        ("7", "The answer is 3 + 4 = 7 for 2 people."),
        ("1200", "**Answer: 1,200** in 2 years"),
        (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$ of the 3 cakes."),
        ("-3", "The answer is x = -3."),
    ],
)
def test_a_named_answer_is_its_first_number_or_what_it_equals(checker, gold, text):
    assert judged(checker, gold, [text]) and not judged(checker, "3", [text] if gold != "3" else [])


def test_choices_are_letters_however_they_are_set(checker):
    right = [
        r"\boxed{C}", r"\boxed{c}", r"\boxed{(C)}", r"\boxed{C) 42}", r"\boxed{\text{C) 42}}",
        r"\boxed{\textbf{(C)}\ 42}",
        r"\boxed{C. vitamin B}", r"\boxed{\mathrm{C}) f(A) = 3}", r"\boxed{\text{Option C}}", "The answer is C) 42.",
        "The answer is (C) because the others are wrong.", "**Answer: C**", "The answer is option C, the last.",
    ]  # fmt: skip
    wrong = [
        r"\boxed{B) C}", r"\boxed{B}", r"\boxed{42}", r"\boxed{B, C}", r"\boxed{C or D}", r"\boxed{(C) or (D)}",
        r"\boxed{C, D}", r"\boxed{C and D}", r"\boxed{CD}", r"\boxed{not C}", r"\boxed{\text{not } C}", r"\boxed{cat}",
        r"\boxed{C) 42 or D) 43}", r"\boxed{}", "The answer is c.f. above.", "The answer is carbon.",
    ]  # fmt: skip
    for gold in ("C", r"\text{(C)}"):
        assert judged(checker, gold, right) == right and judged(checker, gold, wrong) == []
    assert judged(checker, "B", [r"\boxed{b}", r"\boxed{A bit}", r"\boxed{a}"]) == [r"\boxed{b}"]


@pytest.mark.parametrize("gold", [r"\text{June 20}", "June 20", r"\textbf{June 20}"])
def test_words_are_compared_without_their_wrapper(checker, gold):
    right = [r"\boxed{June 20}", r"\boxed{\text{june 20}}", r"\boxed{\mathrm{June}\ 20}"]
    wrong = [r"\boxed{June 21}", r"\boxed{20}", r"\boxed{\text{not June 20}}", r"\boxed{July 20}"]
    assert judged(checker, gold, right + wrong) == right


def test_only_units_are_no_part_of_a_number(checker):
    right = [
        r"5\text{ cm}^2", r"5 \text{ square feet}", r"5 \text{ miles per hour}", r"5\text{ km/h}", r"5 \text{ (units)}",
        r"5 \text{ sq. ft.}", r"5 \text{ dollars per day}", r"5\text{ cubic feet per second}",
    ]  # fmt: skip
    wrong = [
        r"5 \text{ is wrong}", r"5 \text{ or more}", r"5 \text{ not}", r"5 \text{ or } 6", r"5 \text{ less than that}",
        r"5 \text{ is one of the solutions but not all}", r"5 \text{ base six}", r"5 \text{ hours and 20 minutes}",
    ]  # fmt: skip
    boxed = [rf"\boxed{{{text}}}" for text in right + wrong]
    assert judged(checker, "5", boxed) == boxed[: len(right)]


def test_thoughts_and_unfinished_responses_hold_no_answer(checker):
    scores = checker.score(["7"] * 3, ["<think>\\boxed{7}", "<think>\\boxed{7}</think>", "<think>8</think>\\boxed{7}"])
    assert [score.value for score in scores] == [0.0, 0.0, 1.0]
    assert [score.parts["answered"] for score in scores] == [0.0, 0.0, 1.0]


def test_a_hung_comparison_is_ended_off_the_main_thread_and_the_next_one_is_judged():
    found = []

    def work():
        with Checker(seconds=1.0) as checker:
            checker.compare([("x+1", "1+x")])
            start = time.monotonic()
            found.extend(checker.compare([(rf"\frac{{{TOWER}}}{{7}}+x", rf"\frac{{{TOWER}}}{{8}}+x")]))
            found.append(time.monotonic() - start)
            checker.seconds = 60.0
            found.extend(checker.compare([("x+1", "1+x")]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(150)
    hung, seconds, after = found
    assert not hung.right and hung.by == "fallback" and seconds < 30 and after.right


def test_hostile_answers_are_wrong_and_run_nothing(checker, tmp_path):
    mark = tmp_path / "ran"
    attacks = [
        f"__import__('pathlib').Path('{mark}').touch()", rf"\text{{open('{mark}', 'w')}}", "{" * 900, r"\frac{" * 300,
        "9" * 5000, "\x00", "x" * 1_000_000, '", "y"]\n["1", "1"', r"\left(" * 100 + "1", "\ud800",
    ]  # fmt: skip
    verdicts = checker.compare([("2x+1", attack) for attack in attacks])
    assert not any(verdict.right for verdict in verdicts) and not mark.exists()
    assert checker.compare([("2x+1", "1+2x")])[0].right


@pytest.mark.parametrize(("gold", "fault"), [("", "empty"), ("  . ", "empty"), (r"\frac{1}{2", "do not close")])
def test_an_unparsable_gold_is_named(gold, fault):
    with pytest.raises(UserError, match=f"row 3.*{re.escape(fault)}"):
        math_answers.check_gold(gold, "row 3")
