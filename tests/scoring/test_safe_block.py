"""The block is whole or it is not, for a stated reason; nothing of a broken one is hidden from a judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.scoring import safe_block
from lrm_align.scoring.safe_block import CLOSE, OPEN, parse, without_block

FAULTS = {
    "<think>t": safe_block.NOT_CLOSED,
    "<think>t</think>u</think><safe>b</safe>a": safe_block.CLOSED_TWICE,
    "<think>t</think>a": safe_block.NO_BLOCK,
    "<think>t</think>well <safe>b</safe>a": safe_block.MISPLACED,
    "<think>t</think>b</safe>a": safe_block.MISPLACED,
    "<think>t</think><safe>b</safe>a<safe>b</safe>": safe_block.OPENED_TWICE,
    "<think>t</think><safe>b</safe>a</safe>": safe_block.OPENED_TWICE,
    "<think>t</think><safe>b": safe_block.NOT_ENDED,
    "<think>t</think><safe> \n</safe>a": safe_block.EMPTY,
    "<think>t</think><safe>b</safe>\n ": safe_block.NO_ANSWER,
}
PLAIN = st.text().filter(lambda text: text.strip() and not any(t in text for t in (OPEN, CLOSE, "think>")))


@pytest.mark.parametrize("text", FAULTS)
def test_faults(text):
    found = parse(text)
    assert found.fault == FAULTS[text] and not found.triggered and found.block is None
    assert without_block(text) == text
    if found.fault not in (safe_block.NOT_CLOSED,):
        assert found.answer == text.rpartition("</think>")[2].strip(), "the judge sees all of it"


@given(thought=PLAIN, block=PLAIN, answer=PLAIN, space=st.sampled_from(["", "\n", "\n\n"]))
def test_a_whole_block_gives_its_parts_back(thought, block, answer, space):
    text = f"<think>{space}{thought}{space}</think>{space}{OPEN}{space}{block}{space}{CLOSE}{space}{answer}"
    found = parse(text)
    assert found == (thought.strip(), block.strip(), answer.strip(), None)
    bare = parse(without_block(text))
    assert bare.fault == safe_block.NO_BLOCK and bare.answer == answer.strip() and bare.thought == thought.strip()


def test_tags_inside_the_thinking_are_no_block():
    assert parse("<think>I could write <safe>x</safe></think>a").fault == safe_block.NO_BLOCK
    assert parse("<think>a <safe></think><safe>b</safe>c").triggered


def test_an_empty_thought_and_one_that_the_prompt_opened():
    assert parse("<think>\n\n</think>\n\n<safe>b</safe>a") == ("", "b", "a", None)
    assert parse("<think>\nhm").thought == "hm"
