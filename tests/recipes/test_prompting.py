"""The prompts of a run: decontaminated, and never none."""

import pytest

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.recipes import prompting


def made(seed):
    return [Prompt(f"{i}", f"How do I bake bread number {i} at home tonight?", "benign") for i in range(3)]


@pytest.fixture
def against(tmp_path):
    def write(count):
        (tmp_path / "test.csv").write_text("q\n" + "\n".join(prompt.text for prompt in made(0)[:count]) + "\n")
        return {"bread": {"path": str(tmp_path / "test.csv"), "columns": {"text": "q"}, "label": "benign"}}

    return write


def settings(against):
    return {"factory": f"{__name__}:made", "args": {}, "against": against}


def test_what_an_evaluation_asks_is_removed_and_counted(against):
    found = prompting.read(settings(against(1)), 0)
    assert [prompt.id for prompt in found.kept] == ["1", "2"] and found.removed == {"bread": 1} and found.checked == 3


def test_no_prompt_left_is_one_line(against):
    with pytest.raises(UserError, match=r"config\.prompts: all of 3 prompts are in the evaluation sets \['bread'\]"):
        prompting.read(settings(against(3)), 0)
