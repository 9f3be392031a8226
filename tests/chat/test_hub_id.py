"""A hub id is read as a directory is."""

import json

import pytest

from lrm_align.chat import Chat
from tests import hub_cache
from tests.tokenizer_families import small

CONVERSATION = [{"role": "user", "content": "abc <|im_end|> def"}]


@pytest.mark.parametrize("eos", [None, 3, [3, 5]])
def test_all_that_ends_an_answer(eos, tmp_path, monkeypatch):
    small("qwen3").save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    hub_cache.fill(tmp_path, tmp_path / "model", "someone/small", monkeypatch)
    local, hub = (Chat.from_pretrained(name) for name in (str(tmp_path / "model"), "someone/small"))
    assert hub.stop_ids == local.stop_ids and set([eos] if eos == 3 else eos or []) < set(hub.stop_ids)
    assert hub.prompt_ids(CONVERSATION) == local.prompt_ids(CONVERSATION)
