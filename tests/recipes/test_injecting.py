"""Steps after words, without a model: where a step ends, where places are, what the guard reads."""

import types

import numpy as np
import pytest

from lrm_align.defences.steps import Steps
from lrm_align.provenance import Source
from lrm_align.recipes import injecting
from lrm_align.recipes.injecting import NextStep, Place
from lrm_align.sampling.interventions import Continue, Inject, Moment, Start, StepBoundary, Stop
from lrm_align.scoring import Score
from lrm_align.traces import Trace

LETTERS = {1: "Wait", 2: ".", 3: " no", 4: " plan", 5: "</think>", 6: "<think>"}
OPEN, CLOSE = 6, 5


def text(ids):
    return "".join(LETTERS[i] for i in ids)


def moment(ids, words, trigger):
    none = np.zeros(0, np.float32)
    zeros = np.zeros(len(ids), np.uint8)
    return Moment("p", 0, np.array([9]), np.array(ids), zeros, none, none, none, trigger, {"words": words})


END = StepBoundary((2, CLOSE))
SENTENCES = Steps((END,), lambda ids, _: ids[-1] in (2, CLOSE), lambda ids: CLOSE in ids, "sentence")


@pytest.mark.parametrize(
    "steps, drawn, stops",
    [
        (1, [[2], [2, 3, 2]], [False, True]),  # the stop that ends the words is no step
        (2, [[3, 2], [3, 2, 4, 2]], [False, True]),
        (2, [[3, CLOSE]], [True]),  # nothing follows a thought's end
    ],
)
def test_it_stops_after_so_many_steps_that_say_something(steps, drawn, stops):
    one, state = NextStep(SENTENCES, text, steps), {}
    assert one.on_tokens(moment([], [1], Start()), state) == Inject([1])
    assert [one.on_tokens(moment([1, *ids], [1], END), state) == Stop() for ids in drawn] == stops


def test_no_words_inject_nothing():
    assert NextStep(SENTENCES, text, 1).on_tokens(moment([], [], Start()), {}) == Continue()


def trace(ids, source, **meta):
    ids, source = np.array(ids), np.array(source, np.uint8)
    logp = np.where(source == Source.SAMPLED, -1.0, np.nan).astype(np.float32)
    given = {"prompt_id": "p", "group_id": "p", "stop_reason": "intervention", "meta": {"prompt": "how?", **meta}}
    return Trace(np.array([9]), ids, source, logp, logp, **given)


def defence(seen):
    def score(pairs):
        seen.extend(said for _, said in pairs)
        return [Score(-1.0) if "plan" in said else Score.unscored("?") for _, said in pairs]

    return types.SimpleNamespace(opening=(OPEN,), steps=SENTENCES, text=text, score=score)


def test_places_are_the_beginnings_of_steps_and_the_last_is_the_unsafe_one():
    watched = trace([6, 3, 2, 4, 2], [1] * 5, intervention={"scores": [[3, 0.2], [5, -1.0]]})
    found = injecting.places([watched], defence([]))
    assert [(p.before, p.step, p.in_a_line) for p in found] == [((6,), 0, True), ((6, 3, 2), 1, True)]
    closed = trace([6, 3, 2, 5, 3], [1] * 5, intervention={"scores": [[3, 1.0], [4, 1.0]]})
    assert [p.before for p in injecting.places([closed], defence([]))] == [(6,), (6, 3, 2)]


@pytest.mark.parametrize("with_words, read", [(False, "<think> plan."), (True, "<think>Wait plan.")])
def test_the_guard_reads_words_only_where_told_to(with_words, read):
    place = Place("p", "how?", (9,), (6,), (4, 2), 0, True)
    source = [Source.INJECTED, Source.SAMPLED, Source.SAMPLED]
    seen: list[str] = []
    found = injecting.safety([trace([1, 4, 2], source, candidate="x")], [place], ["x"], defence(seen), with_words)
    assert seen == [read] and found["x"].tolist() == [[-1.0]]


def test_what_the_guard_cannot_judge_is_left_out():
    place = Place("p", "how?", (9,), (6,), (4, 2), 0, True)
    found = injecting.safety([trace([3, 2], [1, 1], candidate="x")], [place], ["x"], defence([]), False)
    assert np.isnan(found["x"]).all() and injecting.gain(found["x"], np.ones((1, 1))).size == 0
