"""SafeThink's stages in parts: what a defence did, and what it is measured on."""

import pytest
from ml_collections import ConfigDict

from lrm_align.errors import UserError
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
    found = safethink.interventions(tmp_path)
    assert found["attack"]["injection_rate"] == pytest.approx(1 / 3)
    assert found["attack"]["unscored_rate"] == pytest.approx(1 / 3)
    assert found["attack"]["counts"] == {"injection_rate": 3, "unscored_rate": 2}, "of responses, not of steps"
    assert found["quiet"] == {"injection_rate": 0.0, "counts": {"injection_rate": 1}}, "no step was asked about"


def test_a_cost_without_a_prompt_that_needs_no_defence_is_one_line():
    cost = {"factory": "lrm_align.lab:benchmark", "args": {"name": "attack", "count": 3}}
    config = ConfigDict({"cost": cost, "seed": 0})
    with pytest.raises(UserError, match=r"config\.cost: none of 3 prompts of lrm_align.lab:benchmark is benign"):
        safethink.prompts(config)
    config.cost.factory = ""
    assert safethink.prompts(config) == []
