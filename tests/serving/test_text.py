"""Text as it comes is the text of the whole, in whole characters, cut into thought and answer."""

import itertools
import random

import pytest

from lrm_align.chat import THINK_CLOSE, THINK_OPEN, Chat, split_thinking
from lrm_align.chat.thinking_form import BY_MODEL, BY_PROMPT, ThinkingForm
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


def test_damaged_text_does_not_wait_for_its_end(chat, monkeypatch):
    tokens = {chat.decode([id], keep_control=False): id for id in range(len(chat.tokenizer))}
    broken = next(id for text, id in tokens.items() if text == "\ufffd")
    halves = chat.encode_plain("日")[:2]
    stream, longest, decode = TextStream(chat), [], chat.decode
    monkeypatch.setattr(chat, "decode", lambda ids, **more: longest.append(len(ids)) or decode(ids, **more))
    ids = ([broken] * 37 + halves) * 5 + [broken] * 400 + chat.encode_plain("日本")
    pieces = [stream.feed([id]) for id in ids]
    assert max(longest) < 50  # an id costs the same whatever came before
    most = max(len(list(run)) for empty, run in itertools.groupby(pieces, lambda piece: not piece) if empty)
    assert most < 20
    assert "".join([*pieces, stream.end()]) == chat.completion_text(ids)


def form(opened):
    return ThinkingForm(BY_PROMPT if opened else BY_MODEL, THINK_OPEN, THINK_CLOSE, "the test")


def cut(text, opened=False, stops=(), size=1):
    parts, found = Parts(form(opened), stops), {THOUGHT: "", ANSWER: ""}
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
    if text.count("</think>") < 2:
        found = split_thinking(text, opened)
        assert (found[0] or "", found[1] or "") == (thought, answer)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "opened", "told"),
    [
        ("<think>a</think>b</think>c", False, "<think>a</think>b</think>c"),
        (" a</think>\n\nb\n</think> c STOP d", True, " a</think>\n\nb\n</think> c "),
        ("a STOP b</think> c", False, "a "),
        ("<think> a STOP b</think>  STOP", False, "<think> a STOP b</think>"),
        ("no mark</think>4", False, "no mark</think>4"),
        ("  ", True, "  "),
    ],
)
def test_the_whole_is_cut_as_judges_cut_it(text, opened, told, size):
    parts = Parts(form(opened), ["STOP"])
    for start in range(0, len(text), size):
        parts.feed(text[start : start + size])
        if parts.stopped:
            break
    parts.feed("", last=True)
    assert parts.whole() == split_thinking(told, opened)
    assert size > 3 or parts.closes == told.count("</think>")


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
