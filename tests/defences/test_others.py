"""Defences that are a prefix, a reminder, or a longer thought."""

import functools

import numpy as np
import pytest

from lrm_align import defences, lab
from lrm_align.chat import Chat
from lrm_align.defences.safe_remind import REMINDER
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Continue, Inject, Moment, Rewind, Start, StepBoundary
from tests.tokenizer_families import small


@functools.cache
def lab_chat():
    return Chat.from_pretrained(str(lab.CHECKPOINT))


PREFIXES = {
    "safe_path": "<think>\nLet's think about safety first",
    "thinking_intervention": "<think>\nI am a helpful, respectful, and honest assistant. ",
    "zero_think": "<think>\n\n</think>\n\n",
    "less_think": "<think>\nOkay, the user ask for this, I can answer it without thinking much. \n</think>\n\n",
}


def moment(ids, trigger, entropy=None):
    ids = np.asarray(ids, np.int32)
    nothing = np.zeros(ids.size, np.float32)
    entropy = nothing if entropy is None else np.asarray(entropy, np.float32)
    return Moment("a", 0, np.ones(1, np.int32), ids, nothing, nothing, nothing, entropy, trigger)


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes(name):
    chat = lab_chat()
    defended = getattr(defences, name)(chat, lambda: None)
    action = defended.intervention.on_tokens(moment([], Start()), {})
    assert chat.decode(action.ids) == PREFIXES[name]
    messages = [{"role": "user", "content": "a"}]
    assert defended.messages(messages) == messages and defended.name == name


def test_a_thought_that_the_prompt_opens_is_not_opened_again():
    chat = Chat(small("r1"))
    assert chat.think_open_in_prompt
    action = defences.safe_path(chat, lambda: None).intervention.on_tokens(moment([], Start()), {})
    assert chat.decode(action.ids) == "Let's think about safety first"


def test_self_reminder_changes_the_last_user_turn():
    defended = defences.self_reminder(lab_chat(), lambda: None, before="<", after=">")
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert [message["content"] for message in defended.messages(talk)] == ["a", "b", "<c>"]
    assert talk[2]["content"] == "c" and defended.intervention is None
    assert defended.messages([{"role": "system", "content": "s"}]) == [{"role": "system", "content": "s"}]


def test_more_think_puts_words_in_place_of_the_end():
    chat = lab_chat()
    intervention = defences.more_think(chat, lambda: None, times=2).intervention
    (end,) = intervention.ask_at[0].ids
    state = {}
    ids = [*chat.encode_plain("a b"), end]
    for _ in range(2):
        action = intervention.on_tokens(moment(ids, StepBoundary((end,))), state)
        assert action == Rewind(len(ids) - 1, Inject(tuple(chat.encode_plain("Wait"))))
    assert intervention.on_tokens(moment(ids, StepBoundary((end,))), state) == Continue(again=False)
    late = defences.more_think(chat, lambda: None, limit=2).intervention
    assert late.on_tokens(moment(ids, StepBoundary((end,))), {}) == Continue(again=False)


def test_safe_remind_comes_before_a_line_that_begins_without_doubt():
    chat = lab_chat()
    intervention = defences.safe_remind(chat, lambda: None).intervention
    (boundary,) = intervention.ask_at
    newline = chat.encode_plain("\n")[0]
    assert newline in boundary.ids and boundary.ids[-1] == chat.encode_trusted("</think>")[0]
    words = tuple(chat.encode_plain(REMINDER))
    state: dict = {}
    doubt, none = 2.0, 0.1
    assert intervention.on_tokens(moment([50, newline], boundary, [none, none]), state) == Continue()
    longer = [50, newline, 60, 61, newline]
    assert intervention.on_tokens(moment(longer, boundary, [none, none, doubt, none, none]), state) == Continue()
    longest = [*longer, 70, newline]
    entropy = [none, none, doubt, none, none, none, none]
    assert intervention.on_tokens(moment(longest, boundary, entropy), state) == Rewind(5, Inject(words))
    after = [*longer, *words, 70, newline]
    assert intervention.on_tokens(moment(after, boundary, [none] * len(after)), state) == Continue(again=False)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("safe_path", {"text": " "}),
        ("more_think", {"times": 0}),
        ("safe_remind", {"entropy": 0.0}),
        ("safe_remind", {"times": 0}),
    ],
)
def test_settings_out_of_range(name, arguments):
    with pytest.raises(UserError, match=f"config.defence.args.{next(iter(arguments))}"):
        getattr(defences, name)(lab_chat(), lambda: None, **arguments)
