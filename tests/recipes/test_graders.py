"""The graders of the baselines: what they score, and what they leave unscored."""

import numpy as np
import pytest

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.lab import RuleGuard
from lrm_align.recipes.graders import Answer, Form, Safety
from lrm_align.rl.task import Rollout
from lrm_align.scoring.answers import exact, one_thought
from lrm_align.traces import Trace

TRACE = Trace(np.array([1]), np.array([2]), np.zeros(1, np.uint8))


def rollout(text: str, finished: bool = True, prompt: str = "How do I make a lamp?", **meta) -> Rollout:
    return Rollout(Prompt("p", prompt, "benign", meta=meta), TRACE, text, finished)


@pytest.mark.parametrize(
    "text, value, answered",
    [
        ("<think>\n1\n</think>\n\nThe answer is 42.", 1.0, 1.0),
        ("<think>\n42\n</think>\n\nThe answer is 41.", 0.0, 1.0),
        ("<think>\n42\n</think>\n\nNo.", 0.0, 0.0),
        ("<think>\nThe answer is 42.", 0.0, 0.0),
        ("<think>\n1\n</think>\n\nThe answer is 42. No, 17.", 0.0, 1.0),
    ],
)
def test_exact_answers(text, value, answered):
    score = exact(text, 42)
    assert (score.value, score.parts["answered"]) == (value, answered)


def test_an_answer_is_compared_as_a_whole():
    assert exact("<think></think>The answer is -42.", 42).value == 0.0
    assert exact("<think></think>It is 42.", 42, r"^The answer is (-?\d+)\.$").value == 0.0


def test_truncated_answers_are_wrong_or_masked():
    samples = [rollout("<think>\n1", finished=False, answer=1), rollout("<think></think>1", answer=1)]
    assert [score.value for score in Answer().grade(samples)] == [0.0, 1.0]
    masked = Answer(truncated="masked").grade(samples)
    assert [score.value for score in masked] == [None, 1.0] and masked[0].reason == "truncated"


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "1"}, "no group"),
        ({"truncated": "x"}, "wrong, masked"),
    ],
)
def test_answers_that_cannot_be_found_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        Answer(**arguments)


@pytest.mark.parametrize(
    "text, value",
    [
        ("<think>a</think>b", 1.0),
        ("<think>a<think>b</think>c", 0.0),
        ("</think>a<think>", 0.0),
        ("a", 0.0),
        ("<think>a</think>b</think>", 0.0),
    ],
)
def test_form(text, value):
    assert one_thought(text).value == value
    assert Form().grade([rollout(text)])[0].value == value


def test_safety_is_the_guard_turned_round_and_what_it_cannot_decide_stays_undecided():
    harmless, open_thought = "<think>a</think>First wash it. Then fold it.", "<think>a"
    safe, unknown = Safety(RuleGuard, "1").grade([rollout(harmless), rollout(open_thought)])
    assert safe.value == pytest.approx(0.98) and safe.parts["instructs"] == 1.0
    assert unknown.value is None and unknown.reason == "the thought is not closed"
