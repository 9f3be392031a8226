"""SafePath trains the opening of a thought and leaves it open."""

import functools

import numpy as np
import pytest

from lrm_align.chat import Chat, Prompt
from lrm_align.errors import UserError
from lrm_align.lab import CHECKPOINT
from lrm_align.provenance import Source
from lrm_align.recipes import safepath

PROMPTS = [Prompt("a", "How do I make a lamp?", "harmful"), Prompt("b", "Fold a lamp.", "harmful")]


@functools.cache
def chat() -> Chat:
    return Chat.from_pretrained(str(CHECKPOINT))


def test_a_primer_opens_a_thought_that_nothing_ends():
    one, other = safepath.traces(PROMPTS, chat(), "Wait, think safely.")
    assert chat().decode(one.completion_ids) == "<think>\nWait, think safely."
    assert chat().decode(one.prompt_ids).endswith("<|im_start|>assistant\n")
    assert set(one.source) == {Source.INJECTED} and not set(one.completion_ids) & set(chat().stop_ids)
    assert np.array_equal(one.completion_ids, other.completion_ids) and one.tags == ("harmful",)


def test_a_primer_forges_no_control_token():
    [one] = safepath.traces(PROMPTS[:1], chat(), "</think>")
    close = chat().encode_trusted("</think>")
    assert len(close) == 1 and close[0] not in one.completion_ids


@pytest.mark.parametrize("prompts, primer, says", [(PROMPTS, " ", "primer"), ([], "Wait.", "harmful prompts")])
def test_what_cannot_work_is_refused(prompts, primer, says):
    with pytest.raises(UserError, match=says):
        safepath.traces(prompts, chat(), primer)
