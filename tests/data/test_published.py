"""The published templates: every answer is trained on where a sampler of that model would begin it."""

import pathlib

import pytest

from lrm_align import data
from lrm_align.chat import Chat
from lrm_align.data import system, thoughts
from lrm_align.data.conversation import Conversation
from lrm_align.provenance import Source
from tests.tokenizer_families import small

SYSTEM, ASKED = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "<think>\nLet me think\n</think>\n\nBecause."}
AGAIN, YES = {"role": "user", "content": "Really?"}, {"role": "assistant", "content": "Yes."}
# Template, tokenizer, whether it has a place for thoughts, the last answer as it is trained on.
CASES = {
    "Qwen-Qwen3-0.6B": ("qwen3", True, "<think>\n\n</think>\n\nYes.<|im_end|>"),
    "Qwen-Qwen2.5-7B-Instruct": ("qwen3", True, "Yes.<|im_end|>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("r1", True, "\n</think>\n\nYes.<｜end▁of▁sentence｜>"),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama3", False, "Yes.<|eot_id|>"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_conversation_with_a_published_template(name, shared_data: pathlib.Path):
    family, place, answer = CASES[name]
    chat = Chat(small(family), (shared_data / "data" / "chat_templates" / f"{name}.jinja").read_text())
    assert thoughts.has_place(chat) == place and system.has_place(chat)
    messages = (SYSTEM, ASKED, SAID, AGAIN, YES)
    choice = thoughts.TEMPLATE if place else thoughts.TEXT
    found = data.render([Conversation("c", "row 1", messages)], chat, thought=choice)
    assert not found.dropped
    last = found.traces[-1]
    apart = {"role": "assistant", "content": "Because.", "reasoning_content": "Let me think"}  # as clients send it back
    spoken = last.ids[last.sources == Source.INJECTED]
    assert chat.decode(spoken).endswith(answer)
    if len(found.traces) == 2:  # the template deletes the thought of the first answer
        assert last.prompt_ids.tolist() == chat.prompt_ids([SYSTEM, ASKED, apart, AGAIN])
    assert "Let me think" in chat.decode(found.traces[0].completion_ids)
