"""Text as it comes is the text of the whole, in whole characters, cut into thought and answer."""

import random

import pytest

from lrm_align.chat import Chat
from lrm_align.lab import CHECKPOINT
from lrm_align.serving.text import ANSWER, THOUGHT, Parts, TextStream
from tests.tokenizer_families import small

WORDS = "Größe, 日本語 and 🤦🏽‍♀️ — naïve\n\n  twice  spaced\t."


@pytest.fixture(scope="module", params=["lab", "qwen3", "llama3", "r1"])
def chat(request):
    if request.param == "lab":
        return Chat.from_pretrained(str(CHECKPOINT))
    return Chat(small(request.param))


def streamed(chat, ids, most, rng):
    stream, pieces = TextStream(chat), []
    while ids:
        size = rng.randint(1, most)
        pieces.append(stream.feed(ids[:size]))
        ids = ids[size:]
    return [*pieces, stream.end()]


@pytest.mark.parametrize("most", [1, 5])
def test_pieces_join_to_the_text(chat, most):
    rng = random.Random(most)
    size = len(chat.tokenizer)
    for trial in range(30):
        ids = [rng.randrange(size) for _ in range(rng.randrange(40))]
        if trial % 3 == 0:
            ids = chat.completion_ids("think of " + WORDS, WORDS) + ids
        assert "".join(streamed(chat, ids, most, rng)) == chat.completion_text(ids)


def test_half_a_character_waits(chat):
    ids = chat.encode_plain(WORDS)
    if "\ufffd" in chat.completion_text(ids):
        pytest.skip("this tokenizer has no such characters")
    assert not any("\ufffd" in piece for piece in streamed(chat, ids, 1, random.Random(0)))


def cut(text, opened=False, stops=(), size=1):
    parts, found = Parts(opened, stops), {THOUGHT: "", ANSWER: ""}
    for start in range(0, len(text), size):
        for part, piece in parts.feed(text[start : start + size]):
            found[part] += piece
    for part, piece in parts.feed("", last=True):
        found[part] += piece
    return found[THOUGHT], found[ANSWER], parts.stopped


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "opened", "thought", "answer"),
    [
        ("<think>\n2 + 2 is 4 </think>\n\n 4\n", False, "2 + 2 is 4", "4"),
        ("2 + 2 is 4</think>4", True, "2 + 2 is 4", "4"),
        ("just 4", False, "", "just 4"),
        ("<think>never ends", False, "never ends", ""),
        ("never ends </thin", True, "never ends </thin", ""),
        ("a < b and a <think", False, "", "a < b and a <think"),
        ("<thin", False, "", "<thin"),
        ("<think></think>", False, "", ""),
        ("<think>a</think>b</think>c", False, "a", "b</think>c"),
        ("", False, "", ""),
        ("  \n spaced  out \n", False, "", "spaced  out"),
    ],
)
def test_parts(text, opened, thought, answer, size):
    assert cut(text, opened, size=size) == (thought, answer, False)


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("text", "stops", "answer", "stopped"),
    [
        ("one STOP two", ["STOP"], "one", True),
        ("<think>STOP</think>\n\none\n\ntwo", ["STOP", "\n\n"], "one", True),
        ("one STO", ["STOP"], "one STO", False),
        ("aab", ["ab"], "a", True),
        ("STOP", ["STOP"], "", True),
    ],
)
def test_stop_strings_end_the_answer(text, stops, answer, stopped, size):
    assert cut(text, stops=stops, size=size)[1:] == (answer, stopped)
