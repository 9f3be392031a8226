"""What a model's thoughts look like is found once, whatever tokens its marks have."""

import itertools

import numpy as np
import pytest

from lrm_align import defences
from lrm_align.chat import Chat, split_thinking
from lrm_align.chat.thinking_form import BY_MODEL, BY_PROMPT, NOBODY, find
from lrm_align.errors import UserError
from lrm_align.recipes.filtering import KEEP, NOT_CLOSED, NOT_ENDED, judge
from lrm_align.recipes.rewriting import without_thinking
from lrm_align.sampling.interventions import Moment
from lrm_align.scoring import Score
from lrm_align.traces import Trace
from tests.tokenizer_families import SMALL, small

# No template of these speaks of thoughts, so that the setting alone decides.
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = SMALL
MARKS = ("<think> </think>", "[THINK] [/THINK]", "<|begin_of_thought|>…<|end_of_thought|>")


def chat(family, marks="auto", template=None):
    return Chat(small(family), template, thinking_marks=marks)


def trace(talk, text, stop_reason="stop"):
    ids = talk.encode_trusted(text)
    return Trace([1], ids, [0] * len(ids), [0.0] * len(ids), meta={"prompt": "why?"}, stop_reason=stop_reason)


@pytest.mark.parametrize(
    ("family", "opened_by", "seen_in"),
    [
        ("qwen3", BY_MODEL, "the vocabulary"),
        ("r1", BY_PROMPT, "the prompt that its template writes"),
        *((family, NOBODY, "template and vocabulary") for family in ("llama3", "llama2", "mistral")),
    ],
)
def test_it_is_found_in_template_and_vocabulary(family, opened_by, seen_in):
    form = chat(family).thinking
    assert (form.opened_by, form.seen_in) == (opened_by, seen_in)
    assert (opened_by == NOBODY) == ("none" in form.describe(len))


def test_a_template_that_closes_the_thought_switches_it_off():
    closed = PLAIN.replace("assistant\n{%", "assistant\n<think>\n\n</think>\n\n{%")
    assert closed != PLAIN and chat("qwen3", template=closed).thinking.opened_by == NOBODY
    opened = PLAIN.replace("assistant\n{%", "assistant\n<think>\n{%")
    assert chat("llama3", template=opened).thinking.opened_by == BY_PROMPT


def test_marks_of_several_tokens_are_found_in_the_template():
    source = PLAIN + "{# <think> … </think> #}"
    form = chat("llama3", template=source).thinking
    assert (form.opened_by, form.seen_in) == (BY_MODEL, "the template")


@pytest.mark.parametrize("said", ["", "<think>", "<a> <a>", "<a> <a>b", "yes please do"])
def test_marks_that_are_none_are_one_line(said):
    with pytest.raises(UserError, match=r'config.model.thinking is .*"auto", "none", or the marks'):
        find(said, "", "", ())


@pytest.mark.parametrize(("family", "marks"), [*itertools.product(FAMILIES, MARKS)])
def test_everything_about_a_thought_holds_for_every_spelling(family, marks):
    talk = chat(family, marks, PLAIN.replace("<|im_end|>", "") if family != "qwen3" else PLAIN)
    open_, close = talk.thinking.open, talk.thinking.close
    ids = talk.completion_ids("2 + 2 is 4", "It is 4.")
    text = talk.completion_text(ids)
    assert split_thinking(text) == ("2 + 2 is 4", "It is 4.")
    assert talk.decode(ids).startswith(f"{open_}\n2 + 2") and f"\n{close}" in talk.decode(ids)
    # One thought, which ends with the token that completes its mark.
    (end,) = talk.thought_ends(ids)
    assert close in talk.decode(ids[:end]) and close not in talk.decode(ids[: end - 1])
    assert talk.thought_ends(ids + ids) == [end, len(ids) + end]
    assert talk.thought_size(ids) == end and talk.thought_size(ids[: end - 1]) == end - 1
    empty = talk.completion_text(without_thinking(trace(talk, talk.decode(ids)), talk).completion_ids)
    assert split_thinking(empty) == ("", "It is 4.")
    # A prefix that ends its thought leaves the answer to the model; one that opens it is in the thought.
    zero = talk.decode(defences.zero_think(talk, lambda: None).intervention.ids)
    assert zero == f"{open_}\n\n{close}\n\n"
    more = defences.more_think(talk, lambda: None).intervention
    at = more.begin(ids[:end])
    assert talk.decode(ids[:at]).rstrip() == f"{open_}\n2 + 2 is 4" and more.begin(ids[: end - 1]) is None
    assert ids[end - 1] in more.closing


class Kind:
    name, version = "kind", "1"

    def score(self, prompts, responses):
        return [Score(0.0) for _ in responses]


@pytest.mark.parametrize(
    ("marks", "text", "stop_reason", "outcome"),
    [
        ("none", "It is 4.", "stop", KEEP),
        ("none", "It is", "length", NOT_ENDED),
        ("<think> </think>", "It is 4.", "stop", NOT_CLOSED),
        ("<think> </think>", "<think>2 + 2</think>It is 4.", "length", KEEP),
        ("[THINK] [/THINK]", "It is 4.", "stop", f"{NOT_CLOSED} by [/THINK]"),
        ("[THINK] [/THINK]", "[THINK]2 + 2[/THINK]It is 4.", "stop", KEEP),
    ],
)
def test_the_filter_keeps_what_came_to_its_end(marks, text, stop_reason, outcome):
    talk = chat("llama3", marks)
    assert [verdict.outcome for verdict in judge([trace(talk, text, stop_reason)], talk, Kind())] == [outcome]


@pytest.mark.parametrize(
    "name", ["safe_path", "zero_think", "less_think", "thinking_intervention", "more_think", "safe_remind"]
)
def test_defences_that_act_on_thoughts_refuse_a_model_without(name):
    with pytest.raises(UserError, match=r"acts on the thoughts of a model, and this one has none .*safe_think"):
        getattr(defences, name)(chat("llama3"), lambda: None)


def asked(talk, text, rule="paragraph"):
    """The texts that SafeThink's guard is shown while a completion grows by a token at a time."""
    shown = []

    class Watching(Kind):
        def score(self, prompts, responses):
            shown.extend(responses)
            return [Score(0.0) for _ in responses]

    watch = defences.safe_think(talk, Watching, steps=rule).intervention
    ids, state = np.asarray(talk.encode_trusted(text), np.int32), {}
    (boundary,) = [trigger for trigger in watch.ask_at if hasattr(trigger, "ids")]
    nothing = np.zeros(ids.size, np.float32)
    for size in range(1, ids.size + 1):
        if int(ids[size - 1]) in boundary.ids:
            watch.on_tokens(
                Moment("a", 0, ids[:1], ids[:size], *[nothing[:size]] * 4, boundary, {"prompt": "why?"}), state
            )
    return shown


@pytest.mark.parametrize("family", FAMILIES)
def test_a_paragraph_ends_in_however_many_tokens(family):
    talk = chat(family, "none")
    broken = talk.encode_plain("\n")
    assert asked(talk, "\n\nOne.\n\nTwo.\nStill two.\n\nThree") == ["\n\nOne.\n\n", "\n\nOne.\n\nTwo.\nStill two.\n\n"]
    ids = [*talk.encode_plain("One."), *broken, *broken, *talk.encode_plain("Two")]
    assert len(broken) == 1 and asked(talk, talk.decode(ids)) == ["One.\n\n"]


@pytest.mark.parametrize("rule", ["paragraph", "sentence"])
@pytest.mark.parametrize("marks", MARKS)
def test_the_end_of_a_thought_is_the_end_of_its_last_step(marks, rule):
    talk = chat("llama3", marks)
    open_, close = talk.thinking.open, talk.thinking.close
    (shown,) = asked(talk, f"{open_}\n2 > 1 and 3 > 2{close} so\n\nyes.\n\nno", rule)
    assert shown == f"{open_}\n2 > 1 and 3 > 2{close}"
