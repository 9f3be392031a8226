"""Sentences are counted as a reader counts them, in several scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.scoring.sentences import count_sentences, sentences

COUNTS = {
    "": 0,
    " \n \t ": 0,
    "...": 0,
    "no mark at the end": 1,
    "One. Two.": 2,
    "Is it safe? No! It burns homes.": 3,
    "Really?! Yes.": 2,
    # What a counter of ". " misses, and what it counts too often.
    "one line\nanother line\r\nand a third": 3,
    "It costs 3.5 g, e.g. of salt.": 1,
    "Dr. Who met J. Smith at 5 p.m. today.": 1,
    "He left at 5 p.m. She stayed.": 2,
    "See No. 5 on p. 12. No. Not that.": 3,
    "Nuts, oil, etc. are fine. Etc. And more.": 3,
    "The U.S. army came.": 1,
    "version 1.2.3 of example.com is out": 1,
    "Hmm... what is it?": 1,
    "Hmm... Then I stop.": 2,
    "“Stop!” he said. “Go.” She went.": 3,
    "(It is harmful.) [So I refuse.] Bye": 3,
    "**It is harmful.** I refuse.": 2,
    "1. First\n2. Second. Third\n\n- fourth\na) fifth": 5,
    "# Heading\ntext": 2,
    # Other scripts: no space follows.
    "这是危险的。我应该拒绝！可以吗？": 3,
    "これは危険です。断ります。": 2,
    "他说：“不行。”然后走了。": 2,
    "위험합니다. 거절하겠습니다.": 2,
    "全角．です｡はい": 3,
    "यह गलत है। मैं मना करता हूँ।": 2,
    "هل هذا آمن؟ لا۔ شكرا": 3,
    "Это опасно. Я откажусь.": 2,
}


@pytest.mark.parametrize("text", COUNTS)
def test_counts(text):
    assert count_sentences(text) == COUNTS[text], sentences(text)


@given(st.lists(st.sampled_from(["It burns.", "Is it?", "No!", "危险。", "行吗？", "A 2.5 cm cut."]), max_size=12))
def test_as_many_as_were_joined(parts):
    assert count_sentences(" ".join(parts)) == count_sentences("\n".join(parts)) == len(parts)


@given(st.text(max_size=200))
def test_any_text_has_a_count_and_loses_no_letter(text):
    found = sentences(text)
    assert count_sentences(text) == len(found)
    assert sum(c.isalpha() for c in "".join(found)) >= sum(c.isalpha() for c in text) - 1 * text.count(")")


def test_long_hostile_texts_take_no_time():
    for text in ("." * 200_000, "a." * 100_000, "a. " * 50_000, "(" * 100_000, "\"'" * 50_000 + ".", "。" * 100_000):
        count_sentences(text)
