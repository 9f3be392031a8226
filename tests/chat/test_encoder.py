"""Text in the middle of a completion gets no blank; a lower bound of the number of ids never exceeds it."""

import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lrm_align.chat import Chat
from lrm_align.chat.encoder import _longest_id, _without_blank_in_front
from tests.tokenizer_families import SENTENCE_PIECE, SMALL, small

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


@pytest.mark.parametrize("family", SMALL)
def test_text_that_goes_on_is_what_was_said(family):
    encoder = Chat(small(family)).encoder
    for pieces in (["It", " is", " 4."], ["a\n", "b"], ["\n", "\n", "Wait, ", "think"], ["", "x"]):
        first, *rest = pieces
        ids = [*encoder.plain(first), *(id for piece in rest for id in encoder.plain(piece, goes_on=True))]
        assert encoder.decode(ids) == "".join(pieces)
        assert [id for piece in rest for id in encoder.trusted(piece, goes_on=True)] == ids[len(encoder.plain(first)) :]


@pytest.mark.parametrize("family", SENTENCE_PIECE)
def test_sentence_piece_puts_its_blank_before_a_text_and_nowhere_else(family):
    encoder = Chat(small(family)).encoder
    assert encoder.plain("it") == [encoder.plain(" ", goes_on=True)[0], *encoder.plain("it", goes_on=True)]
    assert encoder.plain("\n", goes_on=True) == [small(family).convert_tokens_to_ids("<0x0A>")]


def test_every_step_that_puts_a_blank_in_front_is_changed():
    letters = {letter: i for i, letter in enumerate([*pre_tokenizers.ByteLevel.alphabet(), "▁"])}
    steps = [pre_tokenizers.ByteLevel(True), pre_tokenizers.Metaspace(prepend_scheme="always")]
    for split in (*steps, pre_tokenizers.Sequence([pre_tokenizers.Digits(), steps[0]])):
        plain = backend(models.BPE(letters, []), split=split)
        assert len(plain.encode("a").ids) == 2 and len(_without_blank_in_front(plain).encode("a").ids) == 1
    alone = backend(models.BPE(letters, []), normalizers.Prepend("▁"), pre_tokenizers.ByteLevel(False))
    assert len(alone.encode("a").ids) > len(_without_blank_in_front(alone).encode("a").ids) == 1
    kept = backend(models.BPE(letters, []), split=pre_tokenizers.ByteLevel(False))
    assert _without_blank_in_front(kept) is kept


@pytest.mark.parametrize("family", SMALL)
def test_fewest_never_exceeds_the_ids(family):
    encoder, rng = Chat(small(family)).encoder, random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices([*PIECES, *encoder.control], k=rng.randrange(40)))
        assert encoder.fewest(text) <= min(len(encoder.plain(text)), len(encoder.trusted(text)))
    for piece in PIECES if family not in SENTENCE_PIECE else ():
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
