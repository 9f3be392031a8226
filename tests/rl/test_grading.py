"""Graders that raise, hang, babble or cannot be reached cost the samples they fail on, and nothing else."""

import threading
import time

import numpy as np
import pytest

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.rl import grading
from lrm_align.rl.task import Rollout
from lrm_align.scoring import Score
from lrm_align.traces import Trace

GOOD = Score(1.0)


def rollouts(*texts: str) -> list[Rollout]:
    trace = Trace(np.array([1]), np.array([2]), np.zeros(1, np.uint8))
    return [Rollout(Prompt(text, text, "benign"), trace, text, True) for text in texts]


class By:
    """A grader that is a function of the texts of a batch."""

    name, version = "by", "1"

    def __init__(self, function):
        self._function, self.asked = function, []

    def grade(self, rollouts):
        texts = [rollout.text for rollout in rollouts]
        self.asked.append(texts)
        return self._function(texts)


@pytest.fixture
def gate():
    """What hung graders wait for; opened at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()
    deadline = time.monotonic() + 5
    while any("grader" in thread.name for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_scores_come_in_order_by_grader():
    length = By(lambda texts: [Score(float(len(text))) for text in texts])
    found = grading.grade({"length": length, "one": By(lambda texts: [GOOD] * len(texts))}, rollouts("a", "bbb"), 5)
    assert found == ([{"length": Score(1.0), "one": GOOD}, {"length": Score(3.0), "one": GOOD}], [])
    assert length.asked == [["a", "bbb"]]
    assert grading.grade({"length": length}, [], 5) == ([], [])


def test_a_reward_that_raises_on_one_sample_leaves_only_that_one_unscored():
    def raising(texts):
        if "bad" in texts:
            raise ZeroDivisionError("no\nwords")
        return [GOOD] * len(texts)

    found = grading.grade({"guard": By(raising), "one": By(lambda t: [GOOD] * len(t))}, rollouts("a", "bad", "c"), 5)
    assert [scores["guard"].reason for scores in found.scores] == [
        None,
        "the grader raised ZeroDivisionError: no words",
        None,
    ]
    assert all(scores["one"] == GOOD for scores in found.scores)
    assert found.faults == ["grader 'guard': 1 of 3 samples: raised ZeroDivisionError: no words"]


def test_a_number_that_is_not_finite_costs_its_sample():
    found = grading.grade({"n": By(lambda texts: [Score(float(text)) for text in texts])}, rollouts("1", "nan"), 5)
    assert found.scores[0]["n"] == GOOD and "a score is finite" in found.scores[1]["n"].reason


def test_a_judge_that_nobody_reaches_is_no_reward_and_is_not_asked_for_ever():
    def unreachable(texts):
        raise ConnectionRefusedError(111, "Connection refused")

    judge = By(unreachable)
    found = grading.grade({"judge": judge}, rollouts(*"abcdefgh"), 5)
    assert {scores["judge"].value for scores in found.scores} == {None}
    assert found.scores[7]["judge"].reason == "unreachable, ConnectionRefusedError: [Errno 111] Connection refused"
    assert len(judge.asked) == 1 + grading.UNREACHABLE
    assert found.faults[0].startswith("grader 'judge': 8 of 8 samples: unreachable")


def test_one_lost_connection_loses_one_sample():
    lost = By(lambda texts: [GOOD] * len(texts))

    def once(texts):
        if "b" in texts:
            raise ConnectionResetError
        return [GOOD] * len(texts)

    found = grading.grade({"judge": By(once), "other": lost}, rollouts("a", "b", "c"), 5)
    assert [scores["judge"].reason for scores in found.scores] == [None, "unreachable, ConnectionResetError", None]


def test_a_grader_that_hangs_is_left_behind_in_time(gate):
    hung = By(lambda texts: gate.wait() and [])
    began = time.monotonic()
    found = grading.grade({"slow": hung, "one": By(lambda t: [GOOD] * len(t))}, rollouts("a", "b"), 0.1)
    assert time.monotonic() - began < 3
    assert [scores["slow"].reason for scores in found.scores] == ["the grader took longer than 0.1 s"] * 2
    assert found.scores[1]["one"] == GOOD
    assert found.faults == ["grader 'slow': 2 of 2 samples: took longer than 0.1 s"]


def test_what_was_scored_before_the_limit_counts(gate):
    def third_hangs(texts):
        if len(texts) > 1:
            raise ValueError("one by one")
        if texts == ["c"]:
            gate.wait()
        return [GOOD]

    found = grading.grade({"slow": By(third_hangs)}, rollouts(*"abcd"), 0.3)
    assert [scores["slow"].scored for scores in found.scores] == [True, True, False, False]


def test_the_time_limit_holds_off_the_main_thread(gate):
    found = []
    hung = {"slow": By(lambda texts: gate.wait() and [])}
    thread = threading.Thread(target=lambda: found.append(grading.grade(hung, rollouts("a"), 0.1)))
    thread.start()
    thread.join(5)
    assert found and found[0].scores[0]["slow"].reason == "the grader took longer than 0.1 s"


def test_graders_that_go_on_hanging_end_the_run(gate, monkeypatch):
    monkeypatch.setattr(grading, "MOST_ABANDONED", 2)
    hung = {"slow": By(lambda texts: gate.wait() and [])}
    for _ in range(2):
        grading.grade(hung, rollouts("a"), 0.02)
    with pytest.raises(UserError, match=r"'slow' hangs: 3 calls .* config.rl.grade_seconds"):
        grading.grade(hung, rollouts("a"), 0.02)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (lambda texts: [GOOD], "gave 1 scores for 2 samples"),
        (lambda texts: [0.5, 0.5], "gave a float among 2 scores"),
        (lambda texts: None, "gave a NoneType"),
    ],
)
def test_a_grader_of_the_wrong_form_is_named(given, found):
    with pytest.raises(UserError, match=rf"grader 'mine' \(.*:By\) {found}; wanted a list"):
        grading.grade({"mine": By(given)}, rollouts("a", "b"), 5)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, UserError])
def test_what_ends_a_run_is_passed_on(kind):
    def ends(texts):
        raise kind("stop")

    with pytest.raises(kind, match="stop"):
        grading.grade({"one": By(ends)}, rollouts("a", "b"), 5)
