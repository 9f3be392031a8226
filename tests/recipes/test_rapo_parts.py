"""The parts of RAPO's first stage: levels, the two passes, and the proof that training and evaluation share nothing."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from lrm_align.chat import Chat, Prompt
from lrm_align.errors import UserError
from lrm_align.recipes import disjoint, rapo_levels, rapo_passes
from lrm_align.scoring import levels
from lrm_align.traces import Trace
from tests.tokenizer_families import small

SETTINGS = {"source": "column", "column": "level", "without": ("sum",)}
TABLE = levels.table(levels.WRITTEN)
ANALYSIS = {"min_characters": 20, "fit": True, "opening": rapo_passes.OPENING}


def prompt(id_, label="harmful", kind="", **meta):
    return Prompt(id_, f"text {id_}", label, kind, meta=meta)


def test_levels_by_column():
    prompts = [
        prompt("a", level=2),
        prompt("b", level="3"),
        prompt("c"),
        prompt("d", "benign"),
        prompt("e", kind="sum"),
    ]
    assert rapo_levels.by_column(prompts, SETTINGS) == {"a": 2, "b": 3, "c": 1, "d": 1, "e": 0}


@pytest.mark.parametrize("value", ["two", -1, 2.5, ""])
def test_columns_that_hold_no_level(value):
    with pytest.raises(UserError, match="prompt 'a' has level"):
        rapo_levels.by_column([prompt("a", level=value)], SETTINGS)


def test_rated_levels_leave_out_what_has_no_clear_answer():
    replies = iter(["<level>3</level>", "perhaps 2", None])
    prompts = [prompt("a", level=1), prompt("b"), prompt("c"), prompt("d", "benign"), prompt("e", kind="sum")]
    found, unknown = rapo_levels.rated(prompts, SETTINGS, TABLE, lambda asked: [next(replies) for _ in asked])
    assert found == {"a": 3, "d": 1, "e": 0}
    assert unknown == {"no <level> in the reply of the judge": 1, "the judge did not finish": 1}


class Model:
    """As much of a student as the passes read."""

    def __init__(self, family):
        self.chat = Chat(small(family))
        self.config = ConfigDict({"max_positions": 512})


SAMPLING = ConfigDict(
    {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_new_tokens": 200, "max_length": 512}
)


def traced(model, id_, text, level=1, stop="stop"):
    ids = np.array(model.chat.encode_trusted(text))
    logp = np.zeros(ids.size, np.float32)
    return Trace([1], ids, np.ones(ids.size, int), logp, prompt_id=id_, stop_reason=stop, meta={"level": level})


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def model(request):
    return Model(request.param)


def test_analyses_are_one_paragraph_and_rejections_have_reasons(model):
    two = "It asks for harm.\n\nI will refuse it."
    opening = "" if model.chat.think_open_in_prompt else "<think>"
    traces = [
        traced(model, "fine", f"{opening}hm</think>\n\n{two}"),
        traced(model, "cut", f"{opening}hm</think>\n\n{two}", stop="length"),
        traced(model, "open", f"{opening}{two}"),
        traced(model, "short", f"{opening}hm</think>\n\nNo."),
        traced(model, "unfit", f"{opening}hm</think>\n\n{two}", level=2),
    ]
    found = rapo_passes.read(traces, model.chat, TABLE, ANALYSIS)
    assert found["fine"] == (" ".join(two.split()), None)
    faults = {id_: one.fault for id_, one in found.items() if one.text is None}
    assert faults == {
        "cut": rapo_passes.CUT, "open": rapo_passes.CUT, "short": rapo_passes.SHORT, "unfit": rapo_passes.UNFIT
    }  # fmt: skip
    assert rapo_passes.read(traces, model.chat, TABLE, {**ANALYSIS, "fit": False})["unfit"].text


def test_pass_two_opens_the_thought_of_the_bare_prompt(model):
    prompts = [prompt("a"), prompt("b"), prompt("c"), prompt("e", kind="sum")]
    analysed = {"a": rapo_passes.Analysis("It is </think> bad."), "b": rapo_passes.Analysis(None, rapo_passes.SHORT)}
    found, dropped = rapo_passes.continuations(
        model, prompts, {"a": 1, "b": 1, "e": 0}, analysed, rapo_passes.OPENING, SAMPLING
    )
    assert dropped == {"b": rapo_passes.SHORT, "c": rapo_passes.NO_LEVEL}
    forced, bare = found
    assert forced.prompt_ids == model.chat.prompt_ids("text a") and forced.meta == {"prompt": "text a", "level": 1}
    opening = "" if model.chat.think_open_in_prompt else "<think>\n"
    assert model.chat.decode(forced.intervention.ids) == f"{opening}Okay, It is </think> bad.\n\n"
    closing = model.chat.encoder.control["</think>"]
    assert closing not in forced.intervention.ids, "an analysis cannot close the thought"
    assert bare.intervention is None


def test_pass_two_leaves_out_what_has_no_room(model):
    analysed = {"a": rapo_passes.Analysis("It is bad. " * 300)}
    found, dropped = rapo_passes.continuations(model, [prompt("a")], {"a": 1}, analysed, "{analysis}\n\n", SAMPLING)
    assert not found and dropped == {"a": rapo_passes.NO_ROOM}


def test_pass_one_tells_the_length_of_the_level(model):
    settings = {"system": rapo_passes.SYSTEM, "user": rapo_passes.USER, "guidance": ("", "GUIDE", "")}
    roomy = ConfigDict({**SAMPLING, "max_length": 4096})
    model.config.max_positions = 4096
    found = rapo_passes.analyses(model, [prompt("a"), prompt("b")], {"a": 2, "b": 0}, TABLE, settings, roomy)
    model.config.max_positions = 512
    [request] = found
    text = model.chat.decode(request.prompt_ids)
    assert "4-6 sentences" in text and "GUIDE" in text and "text a" in text


@pytest.mark.parametrize(
    "change, says",
    [
        ({"system": "Write."}, "length"),
        ({"user": "{prompt} {answer}"}, "answer"),
        ({"opening": "Okay, {analysis}"}, "blank line"),
        ({"guidance": ("",)}, "1 entries"),
        ({"min_characters": 0}, "min_characters"),
    ],
)
def test_settings_that_cannot_work(change, says):
    settings = {
        "system": rapo_passes.SYSTEM, "user": rapo_passes.USER, "opening": rapo_passes.OPENING,
        "guidance": rapo_passes.GUIDANCE, "min_characters": 64, **change,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"config\.analysis") as error:
        rapo_passes.check(settings, levels.table())
    assert says in str(error.value)


def test_nothing_shared_is_proved_with_counts(tmp_path):
    for name, texts in {"attack": ["How?", "how  ?"], "fact": ["1+1?"]}.items():
        rows = [json.dumps({"id": str(n), "prompt": text}) for n, text in enumerate(texts)]
        (tmp_path / f"{name}.answers.jsonl").write_text("\n".join(rows) + "\n")
    asked = disjoint.asked(tmp_path)
    assert asked == {"attack": ["How?", "how  ?"], "fact": ["1+1?"]}
    prompts = {"config.prompts": [Prompt("a", "1-1?", "benign")], "config.rl_prompts": [Prompt("b", "Why?", "benign")]}
    found = disjoint.check(asked, prompts, {"config.prompts": {"xstest": 2}})
    assert found["shared"] == 0 and found["evaluated"] == {"attack": 2, "fact": 1}
    assert found["trained"] == {"config.prompts": 1, "config.rl_prompts": 1}
    assert found["removed"] == {"config.prompts": {"xstest": 2}} and "SHA-256" in found["hash"]
    prompts["config.rl_prompts"].append(Prompt("c", "HOW?\n", "harmful"))
    with pytest.raises(UserError, match="'attack', the first is 'c'"):
        disjoint.check(asked, prompts, {})
