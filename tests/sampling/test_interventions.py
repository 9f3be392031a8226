"""Each action and each moment of the hook, by small interventions."""

import dataclasses

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.models.scores import token_scores
from lrm_align.provenance import Source
from lrm_align.sampling import ForcedPrefix, Request, SamplingParams
from lrm_align.sampling.interventions import (
    Continue,
    Inject,
    Rewind,
    Start,
    StepBoundary,
    Stop,
    StopString,
    TokenCount,
)
from tests.sampling.engines import PARAMS, STOPS, assert_bitwise, engine, requests, run, tiny


@dataclasses.dataclass
class Scripted:
    """Asks at some moments and answers by a function; keeps what it saw."""

    ask_at: tuple
    answer: object

    def on_tokens(self, trace, state):
        state.setdefault("seen", []).append(trace.ids.tolist())
        return self.answer(trace, state)


def _scripted(answer, *ask_at):
    return Scripted(ask_at, answer)


def _sample(intervention, params=PARAMS, stop_ids=(), samples=1, **options):
    found = run(engine(stop_ids=stop_ids, **options), requests(3, samples, params, intervention=intervention))
    return [found["prompt 1", n] for n in range(samples)]


def _assert_scored(completion):
    """Log-probabilities of sampled tokens are those of the text they stand in; injected ones have none."""
    model, params = tiny()
    prompt = np.asarray(completion.request.prompt_ids)
    ids = np.concatenate([prompt, completion.ids])
    scores = token_scores(model.hidden(params, ids[None, :-1]), model.head(params), ids[None, 1:])["logp"][0]
    wanted = np.asarray(scores)[len(prompt) - 1 :]
    sampled = completion.source == Source.SAMPLED
    np.testing.assert_allclose(completion.model_logp[sampled], wanted[sampled], atol=1e-5)
    assert np.isnan(completion.model_logp[~sampled]).all() and np.isnan(completion.sampler_logp[~sampled]).all()


def test_forced_prefix():
    """Longer than a call decodes; the rest is sampled as ever."""
    prefix = tuple(range(20, 30))
    (completion,) = _sample(ForcedPrefix(prefix), SamplingParams(max_new_tokens=15))
    assert completion.ids[:10].tolist() == list(prefix) and len(completion.ids) == 15
    assert completion.source.tolist() == [Source.INJECTED] * 10 + [Source.SAMPLED] * 5
    _assert_scored(completion)


def test_a_prefix_is_cut_at_the_limit_and_may_hold_stop_ids():
    (completion,) = _sample(ForcedPrefix((3, 5, 9, 9)), SamplingParams(max_new_tokens=3), stop_ids=STOPS)
    assert completion.ids.tolist() == [3, 5, 9] and completion.stop_reason == "length"


def test_continue_changes_nothing():
    moments = (Start(), TokenCount(4), StepBoundary(tuple(range(6, 40))), StopString((3,)))
    plain = run(engine(), requests(3, 4))
    asked = run(engine(), requests(3, 4, intervention=_scripted(lambda trace, state: Continue(), *moments)))
    for key, completion in plain.items():
        assert_bitwise(completion, asked[key])
        assert asked[key].state["seen"][0] == []


def test_stop_at_a_count():
    (completion,) = _sample(_scripted(lambda trace, state: Stop(), TokenCount(7)))
    assert len(completion.ids) == 7 and completion.stop_reason == "intervention"
    assert completion.state["seen"] == [completion.ids.tolist()]


def test_inject_at_a_count_as_a_tool():
    (completion,) = _sample(_scripted(lambda trace, state: Inject((40, 41, 42), Source.TOOL), TokenCount(2)))
    assert completion.source.tolist() == [Source.SAMPLED] * 2 + [Source.TOOL] * 3 + [Source.SAMPLED] * 7
    _assert_scored(completion)


def test_every_step_boundary_asks():
    boundary = tuple(range(6, 24))
    (completion,) = _sample(_scripted(lambda trace, state: Continue(), StepBoundary(boundary)))
    places = [i + 1 for i, token in enumerate(completion.ids) if token in boundary]
    assert [len(seen) for seen in completion.state.get("seen", [])] == places and places


def test_a_stop_string_asks_at_its_end():
    (plain,) = _sample(None)
    string = tuple(plain.ids[3:6].tolist())
    (completion,) = _sample(_scripted(lambda trace, state: Stop(), StopString(string), StopString((47,) * 16)))
    assert completion.ids.tolist() == plain.ids[:6].tolist()


def test_an_intervention_may_go_on_after_a_stop_id():
    def answer(trace, state):
        return Inject((30,)) if len(state["seen"]) == 1 else Continue()

    params = SamplingParams(max_new_tokens=30)
    completions = _sample(_scripted(answer, StepBoundary(STOPS)), params, STOPS, samples=4)
    places = [[i for i, token in enumerate(completion.ids) if token in STOPS] for completion in completions]
    assert any(places), "some completion reaches a stop id"
    for completion, ends in zip(completions, places):
        if ends and ends[0] + 1 < len(completion.ids):
            assert completion.ids[ends[0] + 1] == 30
        assert completion.stop_reason == ("stop" if len(ends) == 2 else "length")


@pytest.mark.parametrize("then", [Continue(), Inject((44, 45)), Stop()])
def test_rewind(then):
    """Back to two tokens once; what follows is drawn afresh, and the cache holds the new text."""

    def answer(trace, state):
        return Rewind(2, then) if len(state["seen"]) == 1 else Continue()

    (plain,) = _sample(None)
    (completion,) = _sample(_scripted(answer, TokenCount(6)))
    assert completion.ids[:2].tolist() == plain.ids[:2].tolist()
    if isinstance(then, Stop):
        assert len(completion.ids) == 2 and completion.stop_reason == "intervention"
        return
    assert completion.ids.tolist() != plain.ids.tolist() and len(completion.ids) == 12
    assert len(completion.state["seen"]) == 2
    _assert_scored(completion)


def test_best_of_retries_is_reproducible_among_others():
    """Rewinds as in SafeThink's early steps: three tries, alone and among neighbours, give the same tokens."""

    def answer(trace, state):
        return Rewind(0) if len(state["seen"]) < 3 else Continue()

    asked = requests(6, 2, intervention=_scripted(answer, TokenCount(3)))
    together = run(engine(), asked)
    alone = run(engine(), [dataclasses.replace(asked[2], samples=(1,))])
    assert_bitwise(alone["prompt 2", 1], together["prompt 2", 1])


def test_stop_before_the_first_token():
    (completion,) = _sample(_scripted(lambda trace, state: Stop(), Start()))
    assert completion.ids.size == 0 and completion.stop_reason == "intervention"


def test_more_triggers_than_the_shape_holds():
    crowded = _scripted(lambda trace, state: Continue(), StopString((7,) * 17))
    with pytest.raises(UserError, match="stop_string_length = 17, the engine's shape has 16"):
        engine().run([Request("a", [7], intervention=crowded)])


BOUNDARY = tuple(range(6, 24))


def _at_most_once(action):
    def answer(trace, state):
        return action(trace) if len(state["seen"]) == 2 else Continue()

    return answer


@pytest.mark.parametrize(
    "action",
    [
        lambda trace: Inject((44, 45)),
        lambda trace: Stop(),
        lambda trace: Rewind(1, Inject((44,))),
        lambda trace: Rewind(trace.ids.size - 1),
        lambda trace: Continue(again=False),
        lambda trace: Continue(),
    ],
)
@pytest.mark.parametrize(
    "moment",
    [
        lambda wait: StepBoundary(BOUNDARY, wait=wait),
        lambda wait: StepBoundary((*BOUNDARY, *STOPS), wait=wait),
        lambda wait: (TokenCount(3, wait=wait), TokenCount(8, wait=wait)),
    ],
)
def test_who_does_not_wait_gets_the_same_tokens(action, moment):
    def drawn(wait):
        moments = moment(wait)
        moments = moments if isinstance(moments, tuple) else (moments,)
        return run(engine(), requests(5, 4, intervention=_scripted(_at_most_once(action), *moments)))

    waited, passed = drawn(True), drawn(False)
    for key, completion in waited.items():
        assert_bitwise(completion, passed[key])
        assert completion.state == passed[key].state
    assert any(len(completion.state.get("seen", [])) >= 2 for completion in waited.values())


def test_asked_no_more():
    answer = _scripted(lambda trace, state: Continue(again=False), StepBoundary(BOUNDARY), TokenCount(9))
    plain = run(engine(), requests(3, 4))
    for key, completion in run(engine(), requests(3, 4, intervention=answer)).items():
        assert_bitwise(completion, plain[key])
        assert len(completion.state.get("seen", [])) <= 1


def test_asked_no_more_at_a_later_moment_of_the_same_look():
    moments = StepBoundary(BOUNDARY, wait=False), TokenCount(5)
    answer = _scripted(lambda trace, state: Continue(again=False), *moments)
    plain = run(engine(), requests(6, 4))
    for key, completion in run(engine(), requests(6, 4, intervention=answer)).items():
        assert_bitwise(completion, plain[key])
        assert len(completion.state.get("seen", [])) <= 1


@pytest.mark.parametrize("wait", [True, False])
def test_slots_that_ask_at_a_time_are_asked_together(wait):
    sizes = []

    class Batched:
        ask_at = (StepBoundary(BOUNDARY, wait=wait),)

        def on_tokens(self, trace, state):
            raise AssertionError("asked one by one")

        def on_batch(self, traces, states):
            sizes.append(len(traces))
            for state in states:
                state["asked"] = state.get("asked", 0) + 1
            return [Continue()] * len(traces)

    plain = run(engine(), requests(6, 2))
    for key, completion in run(engine(), requests(6, 2, intervention=Batched())).items():
        assert_bitwise(completion, plain[key])
        assert completion.state.get("asked", 0) == np.isin(completion.ids, BOUNDARY).sum()
    assert max(sizes) > 1


def test_the_entropy_of_what_a_token_was_drawn_from():
    found = []

    def answer(trace, state):
        found.append((trace.ids.copy(), trace.entropy.copy(), trace.prompt_ids))
        return Continue()

    _sample(_scripted(answer, TokenCount(6)))
    (ids, entropy, prompt), *_ = found
    model, params = tiny()
    logits = np.asarray(model.logits(params, np.concatenate([prompt, ids])[None]))[0, prompt.size - 1 : -1]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(entropy, -(np.exp(logp) * logp).sum(-1), atol=1e-4)
