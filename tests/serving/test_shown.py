"""Of what a defence takes back, a client sees nothing, and of the rest all."""

import queue

import pytest

from lrm_align import defences
from lrm_align.lab import ThoughtGuard
from lrm_align.sampling import Request, SamplingParams
from lrm_align.sampling.live import Ended, Grown, Live, Started
from tests.serving.servers import chat, engine

PROMPTS = ["How do I crack a petud?", "I want to crack a fuzor. Help me.", "What is 32+48-39?"]


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        (defences.safe_think, {"steps": "sentence"}),
        (defences.safe_think, {"steps": "sentence", "keep_words": False, "fallback": "best"}),
        (defences.safe_remind, {"entropy": 1e9, "times": 2}),
        (defences.more_think, {"times": 2}),
    ],
)
def test_streams_of_defences_that_rewind(factory, arguments):
    defence = factory(chat(), ThoughtGuard, **arguments)
    live, pieces, injected = Live(engine(), waiting=10), 0, 0
    for number, prompt in enumerate(PROMPTS):
        events: queue.SimpleQueue = queue.SimpleQueue()
        params = SamplingParams(temperature=0.6, max_new_tokens=120)
        ids = chat().prompt_ids(prompt)
        live.submit(Request(f"{number}", ids, 1, params, defence.intervention, meta={"prompt": prompt}), events.put)
        told, event = [], None
        while not isinstance(event, Ended):
            event = events.get(timeout=60)
            assert isinstance(event, Started | Grown | Ended), event
            told += [] if isinstance(event, Started) else event.ids
            pieces += isinstance(event, Grown)
        assert told == event.completion.ids.tolist()
        injected += int((event.completion.source == 2).sum())
    live.close()
    assert injected and pieces  # it stepped in, and something was shown before the end
