"""Scores carry a number or a reason, never both and never neither."""

import math

import pytest

from lrm_align.scoring import Score


def test_a_score_is_a_number_or_a_reason():
    for arguments in ((None,), (0.5, {}, "why"), (math.nan,), (math.inf,)):
        with pytest.raises(ValueError):
            Score(*arguments)


@pytest.mark.parametrize("score", [Score(0.0), Score(0.25, {"p_safe": 0.5}), Score.unscored("empty", {"mass": 0.1})])
def test_records_round_trip(score):
    assert Score.from_dict(score.to_dict()) == score
    assert score.scored == (score.reason is None)
