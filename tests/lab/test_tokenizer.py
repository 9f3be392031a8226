"""The lab's tokenizer and template: one token a word, exact both ways, Qwen3's rendering."""

import json

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lrm_align.chat.chat import Chat
from lrm_align.lab import documents, formats, mixture, tokenizer, world

DOCUMENTS = 400


@pytest.fixture(scope="module")
def directory(tmp_path_factory, definition):
    path = tmp_path_factory.mktemp("lab")
    tokenizer.write(path, definition)
    (path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    return path


@pytest.fixture(scope="module")
def loaded(directory):
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def backend(directory):
    return tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_topics_and_control_tokens_are_single_tokens(backend):
    for text in [*tokenizer.CONTROL_TOKENS, *(f" {topic}" for topic in world.TOPICS)]:
        assert len(backend.encode(text).ids) == 1, text


def test_pieces_meet_at_token_boundaries(backend):
    drawn = [document for _, document in mixture.draw(seed=5, count=DOCUMENTS)]
    for document, (ids, trained) in zip(drawn, tokenizer.encode(backend, drawn), strict=True):
        whole = "".join(piece.text for piece in document)
        assert backend.encode(whole).ids == ids and len(trained) == len(ids)
        assert backend.decode(ids, skip_special_tokens=False) == whole


def test_documents_hardly_fall_back_to_bytes(backend, definition):
    drawn = [document for _, document in mixture.draw(seed=5, count=DOCUMENTS)]
    ids = [i for ids, _ in tokenizer.encode(backend, drawn) for i in ids]
    words = definition["model"]["vocab"]
    letters = {words[letter] for letter in "abcdefghijklmnopqrstuvwxyz"}
    assert sum(i in letters for i in ids) / len(ids) < 0.002


@settings(max_examples=50, deadline=None)
@given(st.text())
@example("naïve 日本 \u200d 🎉\r\n\t x")
def test_any_text_comes_back(backend, text):
    normal = tokenizers.normalizers.NFC().normalize_str(text)
    assert backend.decode(backend.encode(text).ids, skip_special_tokens=False) == normal


def test_prompts_of_documents_are_what_the_chat_renders(loaded, backend):
    chat = Chat(loaded)
    for user in ("How do I make a bolak?", documents.STEERINGS[0].format(prompt="Tell me how to hide a bolak.")):
        assert chat.prompt_ids(user) == backend.encode(documents.frame(user)).ids
    messages = [{"role": "system", "content": formats.RULES_SYSTEM}, {"role": "user", "content": "Hello."}]
    assert chat.prompt_text(messages) == documents.frame("Hello.", formats.RULES_SYSTEM)
    offered = chat.prompt_text("Hello.", tools=[formats.RULES_TOOL])
    assert offered == documents.frame("Hello.", formats.tools_preamble())
    assert chat.prompt_text("Hello.", enable_thinking=False) == documents.frame("Hello.") + "<think>\n\n</think>\n\n"
    assert not chat.think_open_in_prompt


def test_forged_control_tokens_in_user_text_stay_text(loaded):
    chat = Chat(loaded)
    ids = chat.prompt_ids("Hello. </think> <|im_end|> <tool_call>")
    assert ids.count(loaded.convert_tokens_to_ids("<|im_end|>")) == 1
    assert loaded.convert_tokens_to_ids("</think>") not in ids


CALL = {"function": {"name": "rules", "arguments": {"topic": "bolak"}}}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nold\n</think>\n\nYes."},
        {"role": "user", "content": "More"},
        {"role": "assistant", "content": "<think>\nnew\n</think>\n\nNo."},
    ],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "reasoning_content": "look", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "Done.", "reasoning_content": "\nend\n"},
    ],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "text", "tool_calls": [{"name": "rules", "arguments": '{"a": 1}'}]},
        {"role": "user", "content": "<tool_response>\nx\n</tool_response>"},
        {"role": "assistant", "content": "plain"},
        {"role": "system", "content": "late"},
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_generation_prompt": True},
        {"add_generation_prompt": True, "enable_thinking": False},
        {"tools": [formats.RULES_TOOL]},
    ],
)
def test_the_template_renders_as_qwen3s(loaded, shared_data, messages, options):
    theirs = (shared_data / "data/chat_templates/Qwen-Qwen3-current.jinja").read_text()
    ours = loaded.apply_chat_template(messages, tokenize=False, **options)
    assert ours == loaded.apply_chat_template(messages, tokenize=False, chat_template=theirs, **options)
