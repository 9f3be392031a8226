"""Known answers of GRPO: read as the evaluator reads them, refused where no response could be right."""

import re

import pytest

from lrm_align.chat import Prompt
from lrm_align.errors import UserError, one_line
from lrm_align.evals.golds import stated_answer
from lrm_align.recipes import references
from lrm_align.recipes.graders import Reference
from lrm_align.rl.task import Rollout
from lrm_align.scoring.answers import LAST_NUMBER
from lrm_align.scoring.math_answers import Checker
from tests.recipes.test_graders import TRACE


def prompts(*answers):
    return [Prompt(f"p{n}", "How many?", "benign", meta={"answer": answer}) for n, answer in enumerate(answers, 1)]


@pytest.fixture(scope="module")
def checker():
    with Checker() as one:
        yield one


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        ("He has 3 + 4 = <<3+4=7>>7.\n#### 7", "So it is 7.", "So it is 8."),
        ("#### 70,000", "The answer is $70,000.", "The answer is $7,000."),
        ("$70,000", "#### 70000", "#### 70"),
        (r"Thus $x = \boxed{\frac{1}{2}}$.", r"\boxed{0.5}", r"\boxed{0.2}"),
        (42, "<think>\n41?\n</think>\n\nThe answer is 42.", "<think>\n42?\n</think>\n\nThe answer is 41."),
        (0.5, "It is 1/2.", "It is 2."),
    ],
)
def test_references_are_read_and_compared_as_by_the_evaluator(reference, right, wrong, checker):
    asked = prompts(reference)
    grader = Reference(references.read_all(asked, checker), checker)
    found = grader.grade([Rollout(asked[0], TRACE, text, True) for text in (right, wrong, right)])
    assert [score.value for score in found] == [1.0, 0.0, 1.0]


def test_samples_that_ran_into_the_limit_are_wrong_or_masked(checker):
    asked = prompts("7")
    cut, whole = Rollout(asked[0], TRACE, "It is 7.", False), Rollout(asked[0], TRACE, "It is 7.", True)
    answers = references.read_all(asked, checker)
    assert [score.value for score in Reference(answers, checker).grade([cut, whole])] == [0.0, 1.0]
    masked = Reference(answers, checker, "masked").grade([cut, whole])
    assert [score.value for score in masked] == [None, 1.0] and masked[0].reason == "truncated"
    with pytest.raises(UserError, match="wrong, masked"):
        Reference(answers, checker, "x")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        (r"\frac{1}{2", "its braces do not close"),
        ("It is unknown. ####", "expected it to end in '#### 42'"),
        (None, "expected text or a number"),
        (["7"], "expected text or a number"),
        (True, "expected text or a number"),
        ("word " * 4000, "which no response could give"),
    ],
)
def test_a_reference_that_no_answer_could_equal_is_refused_at_once(reference, says, checker):
    with pytest.raises(UserError) as error:
        references.read_all(prompts("7", reference), checker)
    assert says in one_line(error.value) and "prompt 'p2'" in one_line(error.value)


def test_a_pattern_that_could_never_catch_a_reference_is_refused():
    references.check_pattern(prompts(7, "-12"), LAST_NUMBER)
    with pytest.raises(UserError) as error:
        references.check_pattern(prompts(7, "$70,000", "#### 7"), LAST_NUMBER)
    assert "2 of 3 known answers" in one_line(error.value) and "'$70,000' of prompt 'p2'" in one_line(error.value)


@pytest.mark.parametrize(
    "pattern",
    [LAST_NUMBER, r"^(a|(b))$", r"(?P<x>a)", r"[()]([)(])", r"\((a\))", r"(?:a)(?=b)(c)", r"[^])](a)", "([]a])"],
)
def test_the_first_group_is_found_whatever_stands_around_it(pattern):
    group = references.first_group(pattern)
    re.compile(group)
    assert pattern.partition(group)[1] and re.compile(pattern).groups >= 1


@pytest.mark.parametrize("text", ["7", "a\n#### 1,000"])
def test_what_is_stated_is_comparable_with_itself(text, checker):
    gold = stated_answer(text, {}, "row 1")
    assert checker.score([gold], [f"The answer is {gold}."])[0].value == 1.0
