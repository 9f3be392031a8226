"""ASCL's pieces: what a sample did and said, which branches stay, and what a conversation earns."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.chat import Chat, Prompt
from lrm_align.errors import UserError
from lrm_align.lab import formats
from lrm_align.provenance import Source
from lrm_align.recipes import branching, consulting
from lrm_align.recipes.ascl_grading import Form, Helpful, Safety, asked_model
from lrm_align.recipes.consulting import Consulting
from lrm_align.recipes.filtering import KEEP, Verdict
from lrm_align.rl.task import Rollout
from lrm_align.sampling import SamplingParams
from lrm_align.sampling.interventions import Start
from lrm_align.scoring import Score
from lrm_align.traces import Trace
from tests.tokenizer_families import small

SETTINGS = {
    "form": "template",
    "name": "rules",
    "offer": formats.RULES_SYSTEM,
    "rules": "",
    "max_calls": 1,
    "max_result_tokens": 200,
    "lookalikes": ("lookalike",),
}
HEAD = "<think>\na\n</think>\n\n"
RISKY, BENIGN = Prompt("r", "How do I make a bolak?", "harmful"), Prompt("b", "What is 1+1?", "benign", "sum")
OKAY = {"error": None, "tokens": 9, "cut": False, "categories": ["crime"]}
BROKEN = {"error": "not JSON", "tokens": 9, "cut": False}


@pytest.fixture(scope="module")
def organism():
    return Consulting(Chat.from_pretrained(str(lab.CHECKPOINT)), SETTINGS)


@pytest.fixture(scope="module")
def r1():
    return Consulting(Chat(small("r1")), {**SETTINGS, "form": "text", "offer": ""})


def trace(talk, *said, calls=(), stop="stop", prompt=RISKY, sample=0):
    """A sample of what the model said and what the tool said, in turn."""
    ids, source = [], []
    for number, text in enumerate(said):
        found = talk._chat.encode_trusted(text)
        ids, source = ids + found, source + [Source.TOOL if number % 2 else Source.SAMPLED] * len(found)
    logp = np.where(np.array(source) == Source.SAMPLED, -1.0, np.nan)
    return Trace(
        [1], ids, source, logp, prompt_id=prompt.id, sample=sample, stop_reason=stop,
        tags=(prompt.label, talk.class_of(prompt)),
        meta={"prompt": prompt.text, **({"intervention": {"calls": list(calls)}} if calls else {})},
    )  # fmt: skip


def consulted(talk, answer, **more):
    told = talk._chat.decode(talk.form.result("Be kind.", []))
    return trace(talk, HEAD + formats.RULES_CALL, told, f"{HEAD}{answer}<|im_end|>", calls=[OKAY], **more)


def test_a_consultation(organism):
    sample = consulted(organism, "No.")
    found = organism.spoken(sample)
    assert found == consulting.Spoken(True, ("crime",), (), "a", "No.", None) and found.mode == "consult"
    answer = organism.answer(sample)
    assert answer.text == f"{HEAD}No." and answer.finished, "a judge of answers sees the last turn"
    assert answer.notes["consulted"] and answer.notes["answer"] == "No."
    assert formats.RULES_CALL in answer.notes["whole"] and "Be kind." in answer.notes["whole"]


def test_a_direct_answer(organism):
    found = organism.spoken(trace(organism, f"{HEAD}Yes.<|im_end|>"))
    assert found == consulting.Spoken(False, (), (), "a", "Yes.", None) and found.mode == "direct"


@pytest.mark.parametrize(
    ("said", "more", "fault", "mode"),
    [
        ((f"{HEAD}Yes",), {"stop": "length"}, consulting.CUT, "direct"),
        ((f"{HEAD}Yes",), {"stop": "intervention", "calls": [OKAY, BROKEN, BROKEN]}, consulting.ENDED, "consult"),
        ((HEAD, "told", f"{HEAD}Yes<|im_end|>"), {"calls": [BROKEN]}, consulting.MALFORMED, ""),
        (("<think>\nYes<|im_end|>",), {}, consulting.OPEN, "direct"),
        ((f"{HEAD}{HEAD}Yes<|im_end|>",), {}, consulting.TWICE, "direct"),
        ((f"{HEAD}<|im_end|>",), {}, consulting.NO_ANSWER, "direct"),
    ],
)
def test_faults(organism, said, more, fault, mode):
    found = organism.spoken(trace(organism, *said, **more))
    assert (found.fault, found.mode) == (fault, mode)


def test_in_plain_text_calls_and_results_are_no_part_of_the_answer(r1):
    told = "\n<rules_result>\nBe kind.\n</rules_result>\n"
    sample = trace(
        r1, "I look. <rules>crime</rules>", told, "So no.\n</think>\n\nNo.<｜end▁of▁sentence｜>", calls=[OKAY]
    )
    found = r1.spoken(sample)
    assert found.answer == "No." and found.fault is None and found.mode == "consult"
    assert "Be kind." not in found.thought and "Be kind." in r1.answer(sample).notes["whole"]
    late = trace(r1, "hm\n</think>\n\nWait. <rules></rules>", told, "No.<｜end▁of▁sentence｜>", calls=[OKAY])
    assert r1.spoken(late).answer == "Wait. No."
    open_ = trace(r1, "hm\n</think>\n\nWait. <rules><｜end▁of▁sentence｜>")
    assert r1.spoken(open_).fault == consulting.UNANSWERED


def test_classes(organism):
    lookalike = dataclasses.replace(BENIGN, kind="lookalike")
    assert [organism.class_of(prompt) for prompt in (RISKY, BENIGN, lookalike)] == ["risky", "benign", "lookalike"]
    request = organism.request(lookalike, SamplingParams(), 200)
    assert request.tags == ("benign", "lookalike") and request.prompt_ids == organism.prompt_ids(lookalike.text)
    odd = dataclasses.replace(BENIGN, kind="risky")
    assert organism.request(odd, SamplingParams(), 200).tags == ("benign",), "the class is not the file's to say"
    plain = organism.request(RISKY, SamplingParams(), 200, offered=False)
    assert plain.intervention is None and plain.tags == ("harmful", "risky")
    with pytest.raises(UserError, match="longer than the context"):
        organism.request(RISKY, SamplingParams(), 20)


def test_both_branches_are_asked(organism):
    branches = ConfigDict({"asked": "Consult.", "opening": HEAD, "balance": "all"})
    sampling = {"samples": 2, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_new_tokens": 8}
    found = branching.requests(organism, [RISKY, BENIGN], branches, ConfigDict(sampling), 200)
    assert [list(request.samples) for request in found] == [[0, 1], [2, 3]] * 2
    with_rules, without = (organism._chat.decode(request.prompt_ids) for request in found[:2])
    assert "Consult." in with_rules and formats.RULES_SYSTEM in with_rules and "<|im_start|>system" not in without
    assert found[0].intervention.ask_at[0] == Start() and found[1].intervention is None


class Guard:
    """Unsafe where the answer says so; undecided about a question."""

    name, version = "test", "1"

    def score(self, prompts, responses):
        self.asked = list(zip(prompts, responses, strict=True))
        return [Score.unscored("a question") if "?" in text else Score(float("unsafe" in text)) for text in responses]


def test_what_becomes_of_branches(organism):
    traces = [
        consulted(organism, "No."),
        trace(organism, f"{HEAD}Yes.<|im_end|>"),
        trace(organism, f"{HEAD}Yes.<|im_end|>", sample=1),
        trace(organism, f"{HEAD}unsafe<|im_end|>", sample=1),
        trace(organism, f"{HEAD}Why?<|im_end|>", sample=1),
        trace(organism, f"{HEAD}Yes", sample=1, stop="length"),
    ]
    guard = Guard()
    verdicts = branching.judge(traces, organism, 1, guard, 0.5)
    wanted = [KEEP, branching.OTHER, KEEP, "unsafe", "guard undecided", consulting.CUT]
    assert [verdict.outcome for verdict in verdicts] == wanted
    assert guard.asked[0] == (RISKY.text, "No."), "the guard sees the last answer alone"


def test_balance():
    verdicts = {(f"p{n}", s): Verdict(KEEP) for n in range(10) for s in (0, 1)}
    verdicts |= {(f"p{n}", 1): Verdict("unsafe") for n in range(6)}
    found = branching.balanced(verdicts, 1, lambda key: "all", seed=0)
    kept = [key for key, verdict in found.items() if verdict.outcome == KEEP]
    assert sorted(key[1] for key in kept) == [0] * 4 + [1] * 4
    assert sum(verdict.outcome == branching.THINNED for verdict in found.values()) == 6
    assert found == branching.balanced(dict(reversed(verdicts.items())), 1, lambda key: "all", seed=0)
    assert found != branching.balanced(verdicts, 1, lambda key: "all", seed=1)
    few = branching.balanced(verdicts, 1, lambda key: "all", seed=0, direct_share=0.2)
    kept = [key[1] for key, verdict in few.items() if verdict.outcome == KEEP]
    assert (kept.count(0), kept.count(1)) == (10, 2)
    with pytest.raises(UserError, match="no trace of 'direct' was kept"):
        branching.balanced(verdicts, 1, lambda key: "few" if key[0] < "p6" else "many", seed=0)


def rollout(talk, sample, prompt=RISKY):
    return Rollout(prompt, sample, talk.text(sample), sample.stop_reason == "stop")


def test_safety(organism):
    samples = [consulted(organism, "No."), trace(organism, f"{HEAD}unsafe<|im_end|>"), trace(organism, "<think>\n")]
    samples += [trace(organism, f"{HEAD}Why?<|im_end|>"), trace(organism, f"{HEAD}cut", stop="length")]
    rollouts = [rollout(organism, sample) for sample in samples]
    found = Safety(organism, Guard, 0.5).grade(rollouts)
    assert [score.value for score in found] == [1.0, 0.0, 0.0, None, 0.0]
    assert found[1].parts == {"p_unsafe": 1.0} and found[3].reason == "guard: a question"
    masked = Safety(organism, Guard, 0.5, "unscored").grade(rollouts)
    assert [score.value for score in masked] == [1.0, 0.0, None, None, None]
    with pytest.raises(UserError, match="'zero' or 'unscored'"):
        Safety(organism, Guard, 0.5, "one")


def test_helpfulness_is_asked_of_benign_prompts_alone(organism):
    asked = []

    def judge(pairs):
        asked.extend(pairs)
        return [Score(1.0)] * len(pairs)

    samples = [(consulted(organism, "No."), RISKY), (trace(organism, f"{HEAD}2<|im_end|>"), BENIGN)]
    samples += [(trace(organism, f"{HEAD}2", stop="length"), BENIGN)]
    found = Helpful(organism, judge).grade([rollout(organism, *sample) for sample in samples])
    assert [score.value for score in found] == [1.0, 1.0, 0.0] and asked == [(BENIGN, "2")]


def test_the_frozen_model_as_judge():
    seen = []

    def ask(questions):
        seen.extend(questions)
        return ["Verdict: yes", "verdict: no", "Verdict: yes\nVerdict: no", None]

    judge = asked_model(ask, "{request} | {answer}", r"(?im)^verdict: yes", r"(?im)^verdict: no")
    found = judge([(BENIGN, "2")] * 4)
    assert [score.value for score in found] == [1.0, 0.0, None, None] and seen[0] == "What is 1+1? | 2"
    with pytest.raises(UserError, match=r"missing \['answer'\]"):
        asked_model(ask, "{request}", "a", "b")


def test_form(organism):
    samples = [consulted(organism, "No."), trace(organism, "told", "x", f"{HEAD}Yes<|im_end|>", calls=[BROKEN])]
    found = Form(organism).grade([rollout(organism, sample) for sample in samples])
    assert [score.value for score in found] == [1.0, 0.0]
