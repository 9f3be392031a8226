"""A lower bound of the number of ids never exceeds it."""

import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lrm_align.chat import Chat
from lrm_align.chat.encoder import _longest_id
from tests.tokenizer_families import small

PIECES = [
    "a",
    " ",
    "message",
    " content",
    "日",
    "e\u0301",
    "\u1100\u1161\u11a8",
    "\n",
    "<think>",
    "😀",
    "\u0338",
    "é",
    "  ",
]


@pytest.mark.parametrize("family", ["qwen3", "llama3", "r1"])
def test_fewest_never_exceeds_the_ids(family):
    encoder, rng = Chat(small(family)).encoder, random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices([*PIECES, *encoder.control], k=rng.randrange(40)))
        assert encoder.fewest(text) <= min(len(encoder.plain(text)), len(encoder.trusted(text)))
    for piece in PIECES:
        assert 0 < encoder.fewest(piece * 500) <= len(encoder.trusted(piece * 500))


def backend(model, normalizer=None, split=None):
    made = Tokenizer(model)
    made.pre_tokenizer = split or pre_tokenizers.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    return made


def test_no_bound_where_text_may_get_lost():
    letters = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    bpe = models.BPE(letters, [])
    assert _longest_id(backend(bpe), []) == 1 and _longest_id(backend(bpe, normalizers.NFC()), []) == 1
    removing = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel()])
    few = models.BPE({letter: i for i, letter in enumerate("abc")}, [])
    words = models.WordLevel({"a": 0, "?": 1}, unk_token="?")
    for lossy in (
        backend(bpe, normalizers.Strip()),
        backend(bpe, split=removing),
        backend(bpe, split=pre_tokenizers.Whitespace()),
        backend(few),
        backend(words),
    ):
        assert not _longest_id(lossy, [])
