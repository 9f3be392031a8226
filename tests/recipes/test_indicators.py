"""What is asked of the judge, and that nothing it cannot say becomes a reward."""

import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Chat
from lrm_align.recipes import indicators
from lrm_align.rewards import safe_trigger
from lrm_align.scoring import Score
from lrm_align.traces import Trace
from tests.tokenizer_families import small

BLOCK = "<safe>b</safe>"


class Guard:
    name, version = "words", "1"

    def score(self, prompts, responses):
        return [Score.unscored("cannot tell") if "hmm" in r else Score(0.9 if "bad" in r else 0.1) for r in responses]


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def chat(request):
    return Chat(small(request.param))


def samples(chat):
    cases = {
        "A": ("t", f"{BLOCK}no", "stop"),
        "B": ("t", "no", "stop"),
        "C": ("t", f"{BLOCK}bad", "stop"),
        "D": ("t", "bad", "stop"),
        "broken": ("t", "<safe>b no", "stop"),
        "undecided": ("t", "hmm", "stop"),
        "cut": ("t", f"{BLOCK}no", "length"),
        "open": (None, "<think>\nt", "stop"),
        "silent": ("t", "", "stop"),
        "unsure": ("doubt", f"{BLOCK}no", "stop"),
    }
    traces = []
    for number, (thought, answer, stop) in enumerate(cases.values()):
        ids = chat.completion_ids(thought, answer) if thought else chat.encode_plain(answer)
        traces.append(
            Trace(chat.prompt_ids("q"), ids, np.ones(len(ids), np.uint8), np.zeros(len(ids)), prompt_id="q",
                  sample=number, stop_reason=stop, meta={"prompt": "q"})
        )  # fmt: skip
    return dict(zip(cases, traces))


def settings(by):
    return ConfigDict({"judge": {"f_safe_by": by, "questions": indicators.QUESTIONS}, "guard": {"threshold": 0.5}})


@pytest.mark.parametrize("by", ["guard", "model"])
def test_rewards_and_what_is_asked(chat, tmp_path, monkeypatch, by):
    asked = {}

    def ask(directory, question, responses, queries, judge, config, settings):
        asked[directory.name] = {key[1] for key in responses}
        if directory.name == "f_safe":
            return indicators._guarded(Guard(), responses, queries, 0.5)
        return {
            key: Score.unscored("the judge says neither")
            if "doubt" in (response.thought or "") and directory.name == "t_full"
            else Score(1.0)
            for key, response in responses.items()
        }

    monkeypatch.setattr(indicators, "_ask", ask)
    traces = samples(chat)
    guard = Guard() if by == "guard" else None
    found = indicators.score(
        epath.Path(tmp_path), list(traces.values()), chat, None, guard, settings(by), ConfigDict(), safe_trigger()
    )
    by_name = {name: found[trace.key] for name, trace in traces.items()}
    values = {name: score.value for name, score in by_name.items()}
    assert values == {
        "A": 5.0, "B": 2.0, "C": 1.0, "D": 0.0, "broken": 2.0, "undecided": None, "cut": None, "open": None,
        "silent": None, "unsure": None,
    }  # fmt: skip
    assert by_name["cut"].reason == indicators.UNFINISHED
    assert by_name["open"].reason == by_name["silent"].reason == indicators.NO_ANSWER, "an empty answer is no refusal"
    assert by_name["undecided"].reason == "f_safe: cannot tell"
    assert by_name["unsure"].reason == "t_full: the judge says neither"
    assert by_name["A"].parts == {"f_safe": 1.0, "s_exist": 1.0, "t_full": 1.0, "s_full": 1.0}
    assert by_name["D"].parts == {"f_safe": 0.0, "s_exist": 0.0}
    assert asked["t_full"] == asked["s_full"] == {0, 9}, "quality is asked of safe answers after a block alone"
    assert ("f_safe" in asked) == (by == "model")


def test_questions_hold_what_they_are_about():
    questions = indicators.check({"f_safe_by": "model", "questions": indicators.QUESTIONS})
    parts = {"request": "R{0}", "thought": "T", "block": "B", "answer": "A"}
    assert "R{0}" in questions["f_safe"].text(**parts) and "A" in questions["f_safe"].text(**parts)
    assert "\n\nT\n\n" in questions["t_full"].text(**parts) and "\n\nB\n\n" in questions["s_full"].text(**parts)
    assert "None" not in questions["t_full"].text(request="R", thought=None)
