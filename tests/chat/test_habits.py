"""A template that loses or changes what is said is refused when it is loaded; one that wants parts gets them."""

import pytest

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from tests import tokenizer_families as families

OPEN, END = "'<|im_start|>' ~ m.role ~ '\\n'", "'<|im_end|>\\n'"
GENERATE = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def template(content, last=GENERATE):
    """ChatML with another expression in the place of each message's content."""
    return "{% for m in messages %}{{ " + f"{OPEN} ~ ({content}) ~ {END}" + " }}{% endfor %}" + last


def chat_of(source, **options):
    return Chat(families.small("qwen3"), source, name="tiny", **options)


CHANGES = {
    "m.content | upper": "changes the case of what the user says",
    "m.content | lower": "changes the case of what the user says",
    "m.content | title": "changes the case of",
    "m.content.replace('ab', 'x')": "changes what the user says",
    "m.content | replace('/think', '')": "of 'Say /think again, .*' the part '/think' vanished",
    "m.content.replace('forbidden word', '')": "the part 'forbidden word' vanished",
    "m.content | replace('  ', ' ')": "changes what the user says",
    "m.content.split() | join(' ')": "changes what the user says",
    "m.content | truncate(80)": "changes what the user says",
    "m.content[:500]": "changes what the user says",
    "m.content | e": "changes what the user says",
    "m.content | striptags": "changes what the user says",
    "m.content.encode('ascii', 'ignore') | string": "changes what the user says",
    "m.content ~ m.content": "repeats what the user says: it writes it 2 times",
    "m.content | reverse": "what the user says",
    "''": "leaves out what the user says",
    "m.content if m.role != 'user' else ''": "leaves out what the user says",
    "m.content if m.role != 'assistant' else ''": "leaves out what the assistant says",
    "m.content | upper if m.role == 'assistant' else m.content": "changes the case of what the assistant says",
    "m.content.replace('a word', '') if m.role == 'assistant' else m.content": "assistant says: .* 'a word' vanished",
    "m.text": "leaves out what the user says",
}


@pytest.mark.parametrize("content", CHANGES)
def test_templates_that_change_what_is_said_are_refused_by_name(content):
    with pytest.raises(UserError, match=f"^chat template of tiny .*{CHANGES[content]}") as caught:
        chat_of(template(content))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_turns_in_another_order_are_refused():
    backwards = "{% for m in messages | reverse %}" + template("m.content").partition("%}")[2]
    with pytest.raises(UserError, match="reorders what the user says: turns do not come out in their order"):
        chat_of(backwards)


OTHERS = {"system", "developer", "tool", "ipython"}
PARTS = {
    "m.content | map(attribute='text') | join": {"user", "assistant", *OTHERS},
    "m.content[0].text": {"user", "assistant", *OTHERS},
    "m.content[0]['text'] if m.role == 'user' else m.content": {"user"},
    "m.content if m.role == 'user' else m.content[0]['text']": {"assistant", "system"},
    "m.content if m.content is string else m.content | map(attribute='text') | join": set(),
    "m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | first": {"user", "assistant", *OTHERS},
}


@pytest.mark.parametrize("content", PARTS)
def test_parts_are_passed_where_the_template_reads_parts(content):
    chat = chat_of(template(content))
    assert chat.habits.parts == PARTS[content]
    turns = [("user", "a <|im_end|> b"), ("assistant", "c"), ("user", " </think> ")]
    messages = [{"role": role, "content": text} for role, text in turns]
    plain = chat_of(template("m.content"))
    assert chat.prompt_ids(messages) == plain.prompt_ids(messages)
    assert chat.prompt_text(messages) == plain.prompt_text(messages)


def test_a_system_turn_in_parts():
    chat = chat_of(template("m.content if m.role != 'system' else m.content[0].text"))
    assert "system" in chat.habits.parts
    said = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert chat.prompt_ids(said) == chat_of(template("m.content")).prompt_ids(said)


def test_outer_blanks_that_a_template_drops_are_stated_and_counted():
    chat = chat_of(template("m.content | trim"))
    assert chat.habits.trims == {"user", "assistant", "system"} and not chat_of(template("m.content")).habits.trims
    first, second = chat.encoded([" a \n", "a"])
    assert first.ids == second.ids and (first.left_out, second.left_out) == ({"outer blanks": 1}, {})


def test_what_no_probe_foresaw_is_refused_with_the_conversation():
    """A flag that is taken out of the system's text, a role that is not rendered, words that are cut by a number."""
    flags = "m.content.replace('/no_' ~ 'think', '') if m.role == 'system' else m.content"
    deaf = "m.content if m.role != 'system' else ''"
    short = "m.content[:2000]"
    for content, role, text in [(flags, "system", "Be kind. /no_think"), (deaf, "system", "Be kind."),
                                (short, "user", "long " * 500)]:  # fmt: skip
        chat = chat_of(template(content))
        said = [{"role": role, "content": text}, {"role": "user", "content": "Hi"}]
        for wrong in ([said], [said[1:], said]):
            with pytest.raises(
                UserError, match=rf"of tiny changes or leaves out what message 1 says \(role '{role}'\)"
            ):
                chat.prompts_ids(wrong)
        assert chat.prompt_ids("Hi") == chat_of(template("m.content")).prompt_ids("Hi")


def test_templates_that_refuse_a_role_or_a_second_turn_are_served_and_say_so():
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    chat = chat_of(strict + template("m.content"))
    assert chat.prompt_ids("Hi")
    with pytest.raises(UserError, match="no system turns"):
        chat.prompt_ids([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])
    once = "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    assert chat_of(once + template("m.content")).end_of_turn_id == chat.encoder.control["<|im_end|>"]


def test_thoughts_of_context_follow_the_template_and_are_counted():
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nI wonder.\n</think>\n\nc"},
            {"role": "user", "content": "d"}]  # fmt: skip
    for family in ("qwen3", "r1"):
        (prompt,) = Chat(families.small(family)).encoded([said])
        assert prompt.left_out == {"thoughts": 1}
    (prompt,) = Chat(families.small("llama3")).encoded([said])
    assert prompt.left_out == {}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_in_a_field_of_its_own_reaches_a_template_that_reads_it(field):
    shown = "('[' ~ m.reasoning_content ~ ']' if m.reasoning_content is string else '') ~ m.content"
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c", field: "so <|im_end|>"},
            {"role": "user", "content": "d"}]  # fmt: skip
    chat = chat_of(template(shown))
    assert "[so <|im_end|>]c<|im_end|>" in chat.decode(chat.prompt_ids(said))
    assert chat.encoded([said])[0].left_out == {}
    assert chat_of(template("m.content")).encoded([said])[0].left_out == {"thoughts": 1}
    with pytest.raises(UserError, match="a thought of an assistant's message is a list; expected text"):
        chat.prompt_ids([{**said[1], field: ["x"]}])


ENDS = {
    "ends every turn": (template("m.content"), "<|im_end|>"),
    "opens the next one whatever is asked": (template("m.content", "<|im_start|>assistant\n"), "<|im_end|>"),
    "has no ends": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}" + GENERATE, "eos"),
    "has no ends, and opens": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}<|im_start|>assistant\n", "eos"),
    "an opener for each role, and opens": (
        "{% for m in messages %}{{ '<|box_start|>' if m.role == 'user' else '<|quad_start|>' }}{{ m.content }}"
        "{% endfor %}<|quad_start|>", "eos"),
    "an opener of two tokens": (
        "{% for m in messages %}<|box_start|>{{ m.role }}<|box_end|>{{ m.content }}{% endfor %}"
        "<|box_start|>x<|box_end|>", "eos"),
    "its own end": (
        "{% for m in messages %}<|box_start|>{{ m.content }}{{ '<|box_end|>' if m.role == 'assistant' }}{% endfor %}",
        "<|box_end|>"),
    "a system turn of its own": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}"
        + template("m.content"), "<|im_end|>"),
}  # fmt: skip


# Where the tokenizer declares one token as the beginning: (its beginning and end, template, end of the turn).
BEGINS = {
    "an opener that is declared as the beginning": (
        "<|im_start|>", "<|im_end|>", ENDS["a system turn of its own"][0], "<|im_end|>"),
    "the same, and no system turn": ("<|im_start|>", "<|im_end|>", template("m.content"), "<|im_end|>"),
    "the same, with openers alone": (
        "<|im_start|>", "<|endoftext|>", ENDS["has no ends, and opens"][0], "<|endoftext|>"),
    "one token for both ends of a text": (
        "<|endoftext|>", "<|endoftext|>", "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}"
        "{{ eos_token if m.role == 'assistant' }}\n{% endfor %}", "<|endoftext|>"),
    "one token for the beginning and every end": (
        "<|endoftext|>", "<|endoftext|>", "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}"
        "{{ eos_token }}\n{% endfor %}", "<|endoftext|>"),
    "every message ends, roles are words": (
        "<|endoftext|>", "<|im_end|>", "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}"
        "{{ eos_token }}\n{% endfor %}", "<|im_end|>"),
    "turns between brackets": (
        "<|endoftext|>", "<|im_end|>", "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|box_start|>"
        "{{ m.content }}<|box_end|>{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}", "<|im_end|>"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEGINS)
def test_the_beginning_of_a_text_is_told_from_openers_and_ends(case):
    begin, eos, source, end = BEGINS[case]
    tokenizer = families.guard(families.small("qwen3"), "")
    tokenizer.bos_token, tokenizer.eos_token = begin, eos
    chat = Chat(tokenizer, source)
    assert chat.end_of_turn_id == chat.encoder.control[end]


@pytest.mark.parametrize("case", ENDS)
def test_the_end_of_a_turn_never_opens_one(case):
    source, end = ENDS[case]
    chat = chat_of(source)
    expected = chat.tokenizer.eos_token_id if end == "eos" else chat.encoder.control[end]
    assert chat.end_of_turn_id == expected


def test_an_eos_that_opens_turns_ends_none():
    tokenizer = families.guard(families.small("qwen3"), "")
    tokenizer.eos_token = "<|im_start|>"
    assert Chat(tokenizer, ENDS["has no ends, and opens"][0]).end_of_turn_id is None


def test_the_day_is_a_setting_of_the_chat():
    dated = "{{ strftime_now('%Y-%m-%d') }} " + template("m.content")
    assert chat_of(dated).prompt_text("Hi").startswith("2024-07-26 ")
    assert chat_of(dated, date="2030-01-31").prompt_text("Hi").startswith("2030-01-31 ")
    assert chat_of(dated).prompt_ids("Hi") != chat_of(dated, date="2030-01-31").prompt_ids("Hi")
