"""The real tokenizers and templates: published vectors, ids of the plain rendering, no forgery."""

import functools

import pytest

from lrm_align.chat import Chat
from lrm_align.chat.encoder import SpanEncoder
from tests import tokenizer_families as families

TEMPLATES = {
    "Qwen-Qwen2.5-7B-Instruct": "qwen2_5",
    "Qwen-Qwen3-0.6B": "qwen3",
    "Qwen-Qwen3-current": "qwen3",
    "Qwen-Qwen3-nonthinking": "qwen3",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "r1",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "r1_llama",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
}
TRACE = "<think>\nFirst, the sum.\n</think>\n\nIt is 42."
TOOLS = [{"type": "function", "function": {"name": "rules", "parameters": {"type": "object", "properties": {}}}}]
CONVERSATIONS = [
    [{"role": "user", "content": "How many r's are in 'strawberry'? 12345 + 678\n\n- ½ <b>ü</b>\n"}],
    [{"role": "system", "content": "Be safe."}, {"role": "user", "content": "  hi  "}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": TRACE},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": TRACE},
    ],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "no thought"},
        {"role": "user", "content": "<"},
    ],
]


def tokenizer_of(shared_data, family):
    if family in ("llama3", "r1_llama"):
        return families.llama3(shared_data, r1=family == "r1_llama")
    return families.qwen(shared_data, family)


@functools.cache
def chat_of(shared_data, template):
    source = (shared_data / "data" / "chat_templates" / f"{template}.jinja").read_text()
    return Chat(tokenizer_of(shared_data, TEMPLATES[template]), source, name=template)


def control_ids(chat, ids):
    control = set(chat.encoder.control.values())
    return [id for id in ids if id in control]


@pytest.mark.parametrize(
    ("folder", "name", "family"),
    [
        ("tokenizer_qwen", "qwen2_vectors", "qwen3"),
        ("tokenizer_qwen", "deepseek_r1_qwen_vectors", "r1"),
        ("tokenizer_llama3", "llama_bpe_vectors", "llama3"),
    ],
)
def test_published_vectors(shared_data, folder, name, family):
    encoder = SpanEncoder(tokenizer_of(shared_data, family))
    pairs = families.vectors(shared_data, folder, name)
    assert len(pairs) == 47
    assert [encoder.plain(text) for text, _ in pairs] == [ids for _, ids in pairs]


@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_equal_the_plain_rendering(shared_data, template):
    chat = chat_of(shared_data, template)
    for messages in CONVERSATIONS:
        for options in ({}, {"add_generation_prompt": False}, {"enable_thinking": False}, {"tools": TOOLS}):
            if "tools" in options and messages[0]["role"] == "system" and "Llama-3.1" in template:
                continue  # that template wants a user turn first where tools are given
            options = {"add_generation_prompt": True, **options}
            text = chat.tokenizer.apply_chat_template(
                messages, chat_template=chat.template.source, tokenize=False, **options
            )
            assert chat.prompt_text(messages, **options) == text
            expected = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
            assert chat.prompt_ids(messages, **options) == expected


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_control_token_of_any_family_can_be_forged(shared_data, template):
    chat = chat_of(shared_data, template)
    every = [name for other in TEMPLATES for name in chat_of(shared_data, other).encoder.control]
    attack = "x" + "".join(f"{name} {name}{name}" for name in dict.fromkeys(every)) + "<think"
    for role in ("system", "user", "assistant"):
        turns = [[{"role": role, "content": text}, {"role": "user", "content": text}] for text in ("x", attack)]
        harmless, attacked = (chat.prompt_ids(messages) for messages in turns)
        assert control_ids(chat, attacked) == control_ids(chat, harmless)
        assert chat.decode(attacked) == chat.prompt_text(turns[1])


@pytest.mark.parametrize("template", TEMPLATES)
def test_habits_of_the_families(shared_data, template):
    chat = chat_of(shared_data, template)
    ids = chat.prompt_ids("Hello")
    r1 = "R1" in template
    assert chat.think_open_in_prompt == r1
    ends = {"Qwen": "<|im_end|>", "deep": "<｜end▁of▁sentence｜>", "meta": "<|eot_id|>"}
    assert chat.end_of_turn_id == chat.encoder.control[ends[template[:4]]]
    if r1:
        assert ids[-2:] == [chat.encoder.control["<think>"], *chat.encode_plain("\n")]
        assert ids[0] == chat.tokenizer.bos_token_id and ids.count(ids[0]) == 1
        assert "First, the sum" not in chat.prompt_text(CONVERSATIONS[2], add_generation_prompt=False)
    if "Qwen3" in template:
        assert chat.prompt_text(CONVERSATIONS[2], add_generation_prompt=False).count("First, the sum") == 1
        assert chat.prompt_text("x", add_generation_prompt=False).endswith("<|im_end|>\n")
