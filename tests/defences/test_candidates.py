"""Candidates and their ranking, without a model: what is given, cut, grown, chosen and on the front."""

import itertools

import pytest
from hypothesis import given, strategies

from lrm_align import lab
from lrm_align.chat import Chat
from lrm_align.defences import candidates
from lrm_align.defences.candidates import Measured
from lrm_align.errors import UserError


@pytest.fixture(scope="module")
def chat():
    return Chat.from_pretrained(str(lab.CHECKPOINT))


def measured(text, gain=0.0, kl=0.0, tokens=1):
    return Measured(text, tokens, gain, 0.0, kl, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "texts, says",
    [
        ((), "config.search.texts is empty"),
        (("Wait", " ?! "), "says nothing"),
        (("Wait, think safely. Wait",), "has 6 tokens ('Wait' ',' ' think' ' safely' '.' ' Wait')"),
    ],
)
def test_bad_texts_are_named(chat, texts, says):
    with pytest.raises(UserError) as error:
        candidates.given(chat, texts)
    assert says in str(error.value)


def test_given_texts_are_kept_once_and_in_order(chat):
    assert candidates.given(chat, ("Wait", "No", " Wait ")) == ["Wait", "No"]


def test_pieces_are_every_run_of_tokens_that_is_words(chat):
    found = candidates.pieces(chat, ["Wait, think safely."])
    assert set(found) >= {"Wait", "Wait,", "Wait, think", "Wait, think safely"}
    assert "Wait, think safely." not in found and "," not in found
    assert len(found) == len(set(found)) and all(1 <= candidates.length(chat, text) <= 5 for text in found)


def test_pieces_that_take_more_tokens_alone_are_left_out(chat):
    # "think" is one token after a space, and five letters at the beginning.
    assert "think safely." not in candidates.pieces(chat, ["Wait, think safely."], most=2)


def test_growing_adds_one_token_and_keeps_to_the_limit(chat):
    tokens = candidates.pool(chat, ["Wait, think safely."])
    assert tokens == [" Wait", ",", " think", " safely", "."]
    assert candidates.grown(chat, ["Wait"], tokens) == ["Wait,", "Wait think", "Wait safely", "Wait."]
    assert candidates.grown(chat, ["Wait, think safely."], tokens) == []
    every = [candidates.length(chat, text) for text in candidates.grown(chat, ["Wait, think"], tokens)]
    assert set(every) == {4}


def test_the_beam_finds_what_no_piece_is():
    """On a landscape that only "abcd" tops, and whose every head is better than what is shorter."""

    def measure(number, texts):
        heads = [len([1 for x, y in zip(text, "abcd") if x == y]) - (text != "abcd"[: len(text)]) for text in texts]
        return [measured(text, head, 0.0, len(text)) for text, head in zip(texts, heads)]

    def grow(texts):
        return [text + letter for text in texts if len(text) < 4 for letter in "abcd"]

    found = candidates.search(["a", "b"], measure, grow, beam=1, rounds=9, weight=0.1)
    assert candidates.ranked(found, 0.1)[0].text == "abcd"
    assert len({one.text for one in found}) == len(found)
    assert [one.text for one in candidates.search(["a", "b"], measure, grow, beam=0, rounds=9, weight=0)] == ["a", "b"]


def test_each_candidate_is_measured_once():
    asked = []

    def measure(number, texts):
        asked.append((number, list(texts)))
        return [measured(text, len(text), 0.0, len(text)) for text in texts]

    candidates.search(["x"], measure, lambda texts: [t + "y" for t in texts if len(t) < 3], beam=2, rounds=5, weight=0)
    assert asked == [(0, ["x"]), (1, ["xy"]), (2, ["xyy"])]


points = strategies.lists(
    strategies.tuples(strategies.integers(-3, 3), strategies.integers(0, 4)), min_size=1, max_size=9
)


@given(points)
def test_the_front_is_what_nothing_beats(found):
    every = [measured(str(i), gain, kl) for i, (gain, kl) in enumerate(found)]
    front = candidates.front(every)
    assert front
    for one, other in itertools.product(every, every):
        strictly = other.gain >= one.gain and other.kl <= one.kl and (other.gain > one.gain or other.kl < one.kl)
        assert not (strictly and one.text in front)
    for one in every:
        if one.text not in front:
            assert any(o.gain >= one.gain and o.kl <= one.kl for o in every if o.text in front)


@given(points, strategies.floats(0.01, 10))
def test_the_best_at_any_weight_is_on_the_front(found, weight):
    every = [measured(str(i), gain, kl) for i, (gain, kl) in enumerate(found)]
    best = candidates.ranked(every, weight)[0]
    top = best.objective(weight)
    ties = [one for one in every if one.objective(weight) == pytest.approx(top, abs=1e-9)]
    assert candidates.front(every) & {one.text for one in ties}


def test_equals_are_ranked_by_length():
    assert [o.text for o in candidates.ranked([measured("b c", tokens=2), measured("z")], 0.1)] == ["z", "b c"]


def test_words_stay_whole(chat):
    assert candidates.length(chat, "Hmm") == 3  # letters
    assert set(candidates.pieces(chat, ["Hmm is no"])) == {"Hmm", "is", "no", "Hmm is", "is no"}
    assert candidates.pool(chat, ["Hmm is"]) == [" is"]
