"""A published chat model behind the endpoint, as a process, for the client that people have."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
openai = pytest.importorskip("openai")

from lrm_align.chat import Chat
from tests import torch_reference as reference
from tests.real import runs

ASKED, TOKENS = "What is the capital of France?", 24


@pytest.fixture(scope="module")
def client(real_model, tmp_path_factory):
    if not runs.small(real_model):
        pytest.skip(f"{real_model.name} takes too long on a CPU")
    command = [
        sys.executable, "-m", "lrm_align.serve", f"--config={runs.CONFIGS / 'quickstart.py'}", "--port=0",
        f"--config.model.path={real_model}", "--config.serve.max_length=256", "--config.serve.slots=2",
    ]  # fmt: skip
    environ = {**os.environ, "XLA_FLAGS": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert process.stdout is not None
        url = next(re.findall(r"http://\S+", line) for line in process.stdout if "http://" in line)[0]
        yield openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=300)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def test_a_streamed_answer_is_that_of_transformers_and_begins_with_one_token(client, real_model):
    chat = Chat.from_pretrained(str(real_model))
    asked = {"model": real_model.name, "messages": [{"role": "user", "content": ASKED}], "temperature": 0.0}
    stream = client.chat.completions.create(**asked, max_tokens=TOKENS, stream=True)
    pieces = [one.choices[0].delta.content for one in stream if one.choices and one.choices[0].delta.content]
    prompt = np.array(chat.prompt_ids(ASKED))
    ids = reference.greedy(reference.load(real_model), prompt, TOKENS)[prompt.size :].tolist()
    stop = next((i for i, one in enumerate(ids) if one in chat.stop_ids), len(ids))
    assert "".join(pieces) == chat.decode(ids[:stop])
    assert len(chat.encode_plain(pieces[0])) == 1, "it leaves before the others of a call are decoded"
    whole = client.chat.completions.create(**asked, max_tokens=TOKENS)
    assert whole.choices[0].message.content == "".join(pieces)


def test_a_system_turn_and_earlier_turns_are_read(client, real_model):
    talk = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": ASKED},
    ]
    found = client.chat.completions.create(model=real_model.name, messages=talk, max_tokens=8, temperature=0.0)
    ids = Chat.from_pretrained(str(real_model)).prompt_ids(talk)
    assert found.usage.prompt_tokens == len(ids) and found.choices[0].message.content
