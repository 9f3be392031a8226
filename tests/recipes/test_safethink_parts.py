"""SafeThink's stages in parts: what a defence did, and what it is measured on."""

import pytest
from ml_collections import ConfigDict

from lrm_align import defences
from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.lab import CHECKPOINT
from lrm_align.recipes import safethink
from lrm_align.traces import write_shard
from tests.pages import made


def test_what_a_defence_did_is_counted(tmp_path):
    states = [{"injected": 1, "scores": [[0, 0.1], [1, None]]}, {"injected": 0, "scores": [[0, 0.3]]}, {}]
    for name, some in (("attack", states), ("quiet", [{}])):
        traces = [
            made.trace("x", prompt_id=f"{i}", meta={"prompt": "q", "intervention": one}) for i, one in enumerate(some)
        ]
        write_shard(tmp_path / name, "traces-00000", traces, "x")
    found = safethink.interventions(tmp_path, True)
    assert found["attack"]["injection_rate"] == pytest.approx(1 / 3)
    assert found["attack"]["unscored_rate"] == pytest.approx(1 / 3)
    assert found["attack"]["counts"] == {"injection_rate": 3, "unscored_rate": 2, "asked_rate": 3}, "of responses"
    assert found["attack"]["asked_rate"] == pytest.approx(2 / 3)
    quiet = {"injection_rate": 0.0, "asked_rate": 0.0, "counts": {"injection_rate": 1, "asked_rate": 1}}
    assert found["quiet"] == quiet, "no step was asked about"
    assert "asked_rate" not in safethink.interventions(tmp_path, False)["quiet"]


@pytest.mark.parametrize(
    ("rule", "advice"), [("paragraph", "'sentence'"), ("sentence", "'tokens'"), ("tokens", "lower")]
)
def test_a_defence_that_is_never_asked_warns_and_says_why(tmp_path, rule, advice):
    chat = Chat.from_pretrained(str(CHECKPOINT))
    defended = defences.safe_think(chat, lambda: None, steps=rule)

    def sampled(name, states):
        traces = [
            made.trace("x", prompt_id=f"{i}", tags=("harmful",), meta={"prompt": "q", "intervention": state})
            for i, state in enumerate(states)
        ]
        write_shard(tmp_path / name, "traces-00000", traces, "x")

    asked: dict = {"scores": [[4, 0.1]]}
    sampled("attack", [asked] * 9 + [{}])
    assert safethink.never_asked(tmp_path, defended) is None, "a tenth is borne"
    sampled("wrapped", [{}])
    warning = safethink.never_asked(tmp_path, defended)
    assert "safe_think was never asked in 2 of 11 answers to harmful prompts" in warning and advice in warning
    assert safethink.never_asked(tmp_path, defences.zero_think(chat, lambda: None)) is None, "it acts on all"


def test_a_cost_without_a_prompt_that_needs_no_defence_is_one_line():
    cost = {"factory": "lrm_align.lab:benchmark", "args": {"name": "attack", "count": 3}}
    config = ConfigDict({"cost": cost, "seed": 0})
    with pytest.raises(UserError, match=r"config\.cost: none of 3 prompts of lrm_align.lab:benchmark is benign"):
        safethink.prompts(config)
    config.cost.factory = ""
    assert safethink.prompts(config) == []
