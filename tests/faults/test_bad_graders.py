"""Judges that raise, cannot be reached, hang or babble: a run goes on, and loses the samples that they failed on."""

import dataclasses
import json
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.rl import collect, grading
from lrm_align.rl.task import Rollout
from lrm_align.scoring import Score
from tests.rl import tiny

SECONDS = 0.2


class Failing(tiny.Low):
    """Fails in another way in every step, on the samples numbered 1 or on all."""

    def __init__(self):
        self.release = threading.Event()

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        step, bad = rollouts[0].trace.policy, any(one.trace.sample == 1 for one in rollouts)
        if step == 0 and bad:
            raise ZeroDivisionError("a sample that it cannot read")
        if step == 1:
            raise ConnectionRefusedError(111, "Connection refused")
        if step == 2:
            self.release.wait()
        if step == 3 and bad:
            return [Score.unscored("no verdict in 'Well, it depends.'") for _ in rollouts]
        return super().grade(rollouts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory, grader, lines = tmp_path_factory.mktemp("run"), Failing(), []
    settings = dataclasses.replace(tiny.SETTINGS, steps=5, checkpoint_every=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "grade", lambda graders, rollouts, _: grading.grade(graders, rollouts, SECONDS))
        learned = tiny.run(directory, settings, of=tiny.task(grader), log=lines.append)
    grader.release.set()
    return directory, learned, lines


def test_the_run_ends_with_what_was_scored(run):
    _, learned, _ = run
    unscored = [row["samples/unscored"] for row in learned.rows]
    assert unscored == [0.25, 1.0, 1.0, 1.0, 0.0]
    assert ["reward/mean" in row for row in learned.rows] == [True, False, False, False, True]
    assert all(np.isfinite(row["loss"]) for row in learned.rows)
    assert all(row["grad_norm"] == 0.0 for row in learned.rows[1:4]), "what has no reward moves nothing"


def test_every_cause_is_named(run):
    _, _, lines = run
    said = "\n".join(lines)
    assert "grader 'low': 2 of 8 samples: raised ZeroDivisionError: a sample that it cannot read" in said
    assert "grader 'low': 8 of 8 samples: unreachable, ConnectionRefusedError" in said
    assert f"grader 'low': 8 of 8 samples: took longer than {SECONDS} s" in said
    assert "grader 'low' left 8 of 8 samples unscored, 8 of them because: no verdict in 'Well, it depends.'" in said


def test_the_table_shows_why(run):
    directory, _, _ = run
    rows = [json.loads(line) for line in (directory / "rollouts.jsonl").read_text().splitlines()]
    reasons = {row["step"]: row["scores"]["low"]["reason"] for row in rows if row["reward"] is None}
    assert "Connection refused" in reasons[1] and "longer than" in reasons[2] and "no verdict" in reasons[3]


def test_a_judge_that_never_comes_back_ends_the_run_in_the_end(monkeypatch):
    monkeypatch.setattr(grading, "MOST_ABANDONED", 1)
    hung = Failing()
    rollouts = [Rollout(None, None, "", True)]
    hung.grade = lambda rollouts: hung.release.wait()
    try:
        grading.grade({"low": hung}, rollouts, 0.01)
        with pytest.raises(UserError, match="'low' hangs: 2 calls"):
            grading.grade({"low": hung}, rollouts, 0.01)
    finally:
        hung.release.set()
