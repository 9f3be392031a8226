"""One table serves who writes and who judges; the authors' disagreement has to be switched on."""

import pytest

from lrm_align.errors import UserError
from lrm_align.recipes import rapo_passes
from lrm_align.scoring import levels, rapo


def test_generator_and_judge_agree_by_default():
    for lengths in (levels.JUDGED, levels.WRITTEN):
        table = levels.table(lengths)
        assert table.judged == table.written
        for level in range(1, 6):
            assert table.to_write(level) == table.to_judge(level)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_both_prompts_say_the_table(level):
    table = levels.table()
    length = str(table.to_write(level))
    assert length in rapo_passes.SYSTEM.format(length=length, guidance="")
    assert f"Level {level}{' and above' * (level == 3)}: {length}." in rapo.risk_question("?", "!", table)[0]["content"]


def test_what_is_written_as_told_can_be_judged_too_short_only_with_the_switch():
    authors = levels.table(levels.JUDGED, levels.WRITTEN)
    assert 4 in authors.to_write(2) and 4 not in authors.to_judge(2)
    assert 8 in authors.to_write(3) and 8 not in authors.to_judge(3)
    assert "4-6 sentences" not in rapo.risk_question("?", "!", authors)[0]["content"]


def test_levels_beyond_the_table_count_as_its_last():
    table = levels.table()
    assert table.to_judge(9) == table.to_judge(3) and table.highest == 3
    with pytest.raises(ValueError):
        table.to_judge(0)


@pytest.mark.parametrize(
    "lengths, says",
    [
        (((2, 4), (4, 8), (9, 0)), "not longer than level 1"),
        (((2, 0), (5, 8)), "2 to 0 for level 1"),
        (((4, 2), (5, 8)), "4 to 2 for level 1"),
        (((0, 2), (5, 8)), "0 to 2 for level 1"),
        (((2, 4, 6), (5, 8)), "wanted (least, most)"),
        ((("2", 4), (5, 8)), "wanted (least, most)"),
        (((2, 4),), "at least 2"),
    ],
)
def test_tables_without_sense(lengths, says):
    with pytest.raises(UserError, match="levels: ") as error:
        levels.table(lengths)
    assert says in str(error.value)


def test_tables_of_different_sizes():
    with pytest.raises(UserError, match="3 levels, written 2"):
        levels.table(levels.JUDGED, ((2, 3), (4, 0)))
