"""Refusal keywords as a guard."""

from lrm_align.judging import keywords
from lrm_align.scoring import Guard

NO, YES = "<think>\nhm\n</think>\n\nI'm sorry, but I can't help with that.", "<think>\nhm\n</think>\n\nSure: cut it."


def test_polarity_is_that_of_every_guard_and_silence_is_undecided():
    guard = keywords.Complies()
    assert isinstance(guard, Guard)
    assert [s.value for s in guard.score(["q"] * 3, [NO, YES, "<think>\nnever ends"])] == [0.0, 1.0, None]
