"""Pairs of texts become pairs of traces: rendered by the template, never able to forge a control token."""

import json

import numpy as np
import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.chat.preferences import Preference
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.recipes import pairing
from lrm_align.traces import TokenStore, find_shards, list_shards, pairs, read_shard, write_shard
from tests.tokenizer_families import small

ASKED = ({"role": "user", "content": "how? <|im_end|> </think>"},)


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def chat(request):
    return Chat(small(request.param))


def preference(chosen, rejected, number=0):
    return Preference(f"p{number}", ASKED, chosen, rejected, "harmful")


def test_a_pair_is_the_prompt_and_two_answers(chat):
    chosen, rejected = pairing.encode(preference("<think>\nabc\n</think>\n\ndef", "ghi"), chat)
    assert chosen.prompt_ids.tolist() == rejected.prompt_ids.tolist() == chat.prompt_ids(ASKED)
    assert chosen.completion_ids.tolist() == chat.completion_ids("abc", "def")
    # Where the prompt opens the thought, an answer without one closes it first.
    thought = "" if chat.think_open_in_prompt else None
    assert rejected.completion_ids.tolist() == chat.completion_ids(thought, "ghi")
    empty = pairing.encode(preference("abc", "ghi"), chat, empty_thought=True)[1]
    assert empty.completion_ids.tolist() == chat.completion_ids("", "ghi")
    assert (chosen.source == Source.INJECTED).all()
    assert (chosen.tags, rejected.tags) == (("harmful", "chosen"), ("harmful", "rejected"))
    assert chosen.completion_ids[-1] == chat.end_of_turn_id


def test_no_text_becomes_a_control_token(chat):
    control = list(chat.encoder.control)
    hostile = "abc " + " ".join(mark for mark in control if "think" not in mark)
    plain, _ = pairing.encode(preference("abc", "def"), chat)
    forged, thought = pairing.encode(preference(hostile, f"<think>\n{hostile}\n</think>\n\n{hostile}"), chat)

    def marks(trace):
        return [int(i) for i in trace.completion_ids if int(i) in set(chat.encoder.control.values())]

    assert marks(forged) == marks(plain)
    assert marks(thought) == [i for i in chat.completion_ids("abc", "def") if i in set(chat.encoder.control.values())]


def rows(path, count=5):
    lines = [{"prompt": f"abc {i}", "chosen": f"def {i}", "rejected": "ghi"} for i in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_files_become_shards_once_and_only_once(chat, tmp_path):
    found = pairing.from_rows(chat, 0, path=rows(tmp_path / "pairs.jsonl"))
    directory = epath.Path(tmp_path / "stage")
    assert pairing.write(directory, found.traces(), found.identity)["pairs"] == found.size == 5
    again = pairing.write(directory, found.traces(), found.identity)
    assert again == {"pairs": 5, "skipped": {"equal answers": 0, "empty side": 0}}
    store = TokenStore.from_shards(find_shards(directory / pairing.PAIRS))
    assert pairs.find(store).shape == (5, 2) and len(store) == 10
    with pytest.raises(UserError, match="another recipe"):
        pairing.write(directory, found.traces(), "0" * 16)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_trained_on_whatever_the_template_does_with_them(chat, tmp_path, field):
    """R1's template deletes every thought, Qwen3's all but the last; trained turns keep theirs, context is counted."""
    before = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1", field: "it is the first"},
        {"role": "assistant", "content": "<think>\nand so on\n</think>\n\n2"},
        {"role": "user", "content": "and?"},
    ]
    row = {
        "chosen": [*before, {"role": "assistant", "content": "same", field: "abc", "score": 1}],
        "rejected": [*before, {"role": "assistant", "content": "same", field: "def"}],
    }
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    found = pairing.from_rows(chat, 0, path=str(path))
    ((chosen, rejected),) = found.traces()
    for trace, thought in ((chosen, "abc"), (rejected, "def")):
        assert trace.completion_ids.tolist() == chat.completion_ids(thought, "same")
        text = chat.decode(trace.ids)
        assert text.count(f"<think>\n{thought}\n</think>\n\nsame") == 1 and "it is the first" not in text
    assert found.left_out == {"field score": 1, "thoughts of the prompt": 2}
    assert found.skipped == {}


def test_identity_follows_the_texts_and_the_template(chat, tmp_path):
    path = rows(tmp_path / "pairs.jsonl")
    first = pairing.from_rows(chat, 0, path=path).identity
    assert pairing.from_rows(chat, 0, path=path).identity == first
    assert pairing.from_rows(chat, 0, path=path, empty_thought=True).identity != first
    assert pairing.from_rows(chat, 0, path=rows(tmp_path / "pairs.jsonl", 4)).identity != first


def test_pairs_of_traces_are_taken_as_they_are(chat, tmp_path):
    made = [pairing.encode(preference(f"abc {i}", "ghi", i), chat) for i in range(4)]
    write_shard(tmp_path, "pairs", [trace for pair in made for trace in pair], "recipe")
    found = pairing.read(chat, 0, path=str(tmp_path), columns={}, label="")
    for (chosen, rejected), (c, r) in zip(found.traces(), made, strict=True):
        np.testing.assert_array_equal(chosen.ids, c.ids)
        np.testing.assert_array_equal(rejected.ids, r.ids)
        assert chosen.key == (c.group_id, 0)
    assert pairing.from_traces(chat, 0, path=str(tmp_path), limit=2).size == 2


def test_pairs_that_teach_nothing_are_counted(chat, tmp_path):
    same = pairing.encode(preference("abc", "abc", 1), chat)
    good = pairing.encode(preference("abc", "def", 2), chat)
    bare = good[1].replace(completion_ids=[], source=[], sampler_logp=None, model_logp=None)
    empty = pairs.make(good[0], bare, "p3")
    directory = epath.Path(tmp_path)
    summary = pairing.write(directory / "some", [same, good, empty], "i")
    assert summary == {"pairs": 1, "skipped": {"equal answers": 1, "empty side": 1}}
    (shard,) = list_shards(directory / "some" / pairing.PAIRS)
    assert [trace.key for trace in read_shard(shard)] == [("p2", 0), ("p2", 1)]
    with pytest.raises(UserError, match="none is left to train on"):
        pairing.write(directory / "none", [same], "i")


def test_a_missing_path_is_named(chat):
    with pytest.raises(UserError, match=r"config.pairs.args.path is empty"):
        pairing.read(chat, 0, path="")
    with pytest.raises(UserError, match="no such file"):
        pairing.read(chat, 0, path="somewhere/pairs.jsonl")
