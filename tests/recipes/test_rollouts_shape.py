"""Slots are as long as the requests can fill them, and no longer than they may be."""

import pytest

from lrm_align.recipes.rollouts import fitted
from lrm_align.sampling import EngineShape, Request, SamplingParams
from lrm_align.sampling.interventions import ForcedPrefix


def request(prompt, new, intervention=None):
    params = SamplingParams(max_new_tokens=new)
    return Request("p", list(range(1, prompt + 1)), params=params, intervention=intervention)


@pytest.mark.parametrize(
    ("asked", "length"),
    [
        ([request(10, 100)], 256),
        ([request(10, 100), request(200, 57)], 512),
        ([request(200, 56)], 256),
        ([request(1000, 4000)], 4096),
        ([request(10, 100, ForcedPrefix((1,)))], 4096),
        ([], 256),
    ],
)
def test_a_slot_holds_the_longest_request(asked, length):
    assert fitted(EngineShape(8, 4096), asked).max_length == length
    assert fitted(EngineShape(8, 144), asked).max_length == 144, "never longer than the settings say"
