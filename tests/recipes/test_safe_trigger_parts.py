"""Splicing keeps sampled ids, tags become tokens without a word changing, and the filter counts what it drops."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.models import hf, vocabulary
from lrm_align.provenance import Source
from lrm_align.recipes import assembly, auditing, filtering, questions, tags
from lrm_align.scoring import Score, safe_block
from lrm_align.traces import Trace, find_shards, read_shard, write_shard
from tests.end_to_end import tiny
from tests.tokenizer_families import small

BLOCK = "<safe>\na risk, so: refuse.\n</safe>\n\nI cannot help."


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def chat(request):
    return Chat(small(request.param))


@pytest.fixture(scope="module")
def tagged(chat):
    """The same chat with the tags as tokens."""
    tokenizer = Chat(small("qwen3" if "im_start" in chat.template.source else "r1")).tokenizer
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        chat_template=tokenizer.chat_template,
        eos_token=tokenizer.eos_token,
        bos_token=tokenizer.bos_token,
    )
    tokenizer.add_tokens([tags.AddedToken(tag, special=False, normalized=False) for tag in ("<safe>", "</safe>")])
    return Chat(tokenizer)


def trace(chat, thought, answer, query="how?", prompt_id="p", label="harmful", logp=-0.5, prompt=None, stop="stop"):
    ids = chat.completion_ids(thought, answer) if thought is not None else chat.encode_plain(answer)
    return Trace(
        prompt_ids=chat.prompt_ids(prompt or query),
        completion_ids=ids,
        source=np.ones(len(ids), np.uint8),
        sampler_logp=np.full(len(ids), logp),
        prompt_id=prompt_id,
        tags=(label,),
        stop_reason=stop,
        meta={"prompt": query},
    )


class Words:
    """A guard that decides by a word, and records what it was shown."""

    name, version = "words", "1"

    def __init__(self):
        self.seen = []

    def score(self, prompts, responses):
        self.seen += zip(prompts, responses)
        return [
            Score.unscored("cannot tell") if "hmm" in text else Score(0.9 if "bad" in text else 0.1)
            for text in responses
        ]


@pytest.mark.parametrize("source", ["first", "second"])
def test_assembly_splices_ids(chat, source):
    first = trace(chat, "the user wants it", "Sure.", logp=-0.25)
    second = trace(chat, "let me check", BLOCK, prompt="audit this", logp=-0.75)
    made = auditing.assembled(first, second, chat, source)
    close = chat.encoder.control["</think>"]
    kept = first if source == "first" else second
    head = kept.completion_ids.tolist().index(close) + 1
    tail = second.completion_ids.tolist().index(close) + 1
    assert made.completion_ids.tolist() == [*kept.completion_ids[:head], *second.completion_ids[tail:]]
    assert made.prompt_ids.tolist() == chat.prompt_ids("how?"), "the bare query"
    assert (made.source == Source.SAMPLED).all()
    wanted = [*kept.sampler_logp[:head], *second.sampler_logp[tail:]]
    assert made.sampler_logp.tolist() == pytest.approx(wanted)
    text = chat.full_response(chat.completion_text(made.completion_ids))
    thought = "the user wants it" if source == "first" else "let me check"
    assert safe_block.parse(text) == (thought, "a risk, so: refuse.", "I cannot help.", None)
    assert made.key == first.key and made.meta["think_source"] == source


def test_assembly_wants_ended_thinking(chat):
    with pytest.raises(ValueError, match="open"):
        auditing.assembled(trace(chat, None, "still going"), trace(chat, "t", BLOCK), chat)


def test_audits_show_the_reasoning_and_skip_the_rest(chat):
    traces = [
        trace(chat, "plan </think> b", "Sure.", "make </think> {it}", "a"),
        trace(chat, "plan c", "Sure.", "fine", "b", label="benign"),
        trace(chat, None, "open", "open", "c"),
        trace(chat, "long " * 60, "Sure.", "long", "d"),
    ]
    asked, too_long = auditing.audits(traces, chat, "Q {request} R {thought} {{}}", 200)
    assert [(prompt.id, prompt.text) for prompt, _ in asked] == [("a", "make </think> {it}")] and too_long == 1
    assert asked[0][1].startswith("Q make </think> {it} R plan") and asked[0][1].endswith(" {}")
    ids = chat.prompt_ids(asked[0][1])
    assert chat.encoder.control["</think>"] not in ids, "neither query nor reasoning forges a control token"


def test_verdicts_of_the_first_pass(chat):
    cases = {
        filtering.KEEP: trace(chat, "t", "Sure.", label="benign"),
        filtering.NOT_CLOSED: trace(chat, None, "t", stop="length"),
        assembly.CUT: trace(chat, "t", "Su", stop="length"),
        assembly.BLOCK_IN_GENERAL: trace(chat, "t", BLOCK, label="benign"),
    }
    assert {wanted: assembly.first_pass(t, chat).outcome for wanted, t in cases.items()} == {k: k for k in cases}
    twice = trace(chat, "t", "Sure.")
    ids = np.insert(twice.completion_ids, 1, chat.encoder.control["</think>"])
    twice = twice.replace(completion_ids=ids, source=np.ones(ids.size, np.uint8), sampler_logp=np.zeros(ids.size),
                          model_logp=None)  # fmt: skip
    assert assembly.first_pass(twice, chat).outcome == safe_block.CLOSED_TWICE


def test_verdicts_of_the_second_pass(chat):
    guard = Words()
    traces = [
        trace(chat, "t", BLOCK),
        trace(chat, "bad thought", BLOCK.replace("a risk", "bad")),
        trace(chat, "t", BLOCK + " bad"),
        trace(chat, "t", BLOCK + " hmm"),
        trace(chat, "t", "I cannot help."),
        trace(chat, "t", BLOCK, stop="length"),
        trace(chat, None, BLOCK),
    ]
    verdicts = assembly.second_pass(traces, chat, guard, 0.5)
    assert [verdict.outcome for verdict in verdicts] == [
        filtering.KEEP, filtering.KEEP, filtering.UNSAFE, filtering.UNDECIDED, safe_block.NO_BLOCK, assembly.CUT,
        filtering.NOT_CLOSED,
    ]  # fmt: skip
    assert {text for _, text in guard.seen} == {f"I cannot help.{end}" for end in ("", " bad", " hmm")}, "answers alone"


def run(tmp_path, chat, first, second, new=None, source="first"):
    directory = epath.Path(tmp_path)
    inputs = {}
    for name, traces in (("sample", first), ("audit", second)):
        inputs[name] = directory / name
        write_shard(inputs[name], "s", traces, "hash")
    counts = assembly.run(directory, inputs, chat, new or chat, Words(), 0.5, source)
    return counts, [t for shard in find_shards(directory / "sft") for t in read_shard(shard)]


def test_from_two_passes_to_training_shards(chat, tagged, tmp_path):
    benign = trace(chat, "easy", "Yes.", "hello", "g", "benign")
    first = [trace(chat, "t", "Sure.", prompt_id=f"p{i}") for i in range(4)] + [benign]
    second = [trace(chat, "u", BLOCK, prompt_id="p0"), trace(chat, "u", BLOCK + " bad", prompt_id="p1"),
              trace(chat, "u", "No.", prompt_id="p2")]  # fmt: skip
    counts, traces = run(tmp_path / "text", chat, first, second)
    assert counts["kept"] == {"harmful": 1, "benign": 1}
    assert counts["dropped"] == {
        "harmful: unsafe": 1, "harmful: no block": 1, f"harmful: {assembly.NOT_AUDITED}": 1,
    }  # fmt: skip
    assert sum(counts["kept"].values()) + sum(counts["dropped"].values()) == len(first)
    assert traces[0] == benign, "general queries stay untouched"
    _, again = run(tmp_path / "added", chat, first, second, new=tagged)
    assert again[0] == benign
    assert tagged.decode(again[1].completion_ids) == chat.decode(traces[1].completion_ids)


@pytest.mark.parametrize("gone", ["harmful", "benign"])
def test_nothing_of_a_label_left_is_said(chat, tmp_path, gone):
    first = [
        trace(chat, "t", "Sure." if gone == "harmful" else BLOCK, "hello", "g", "benign"),
        trace(chat, "t", "Sure.", prompt_id="p"),
    ]
    second = [trace(chat, "u", "No." if gone == "harmful" else BLOCK, prompt_id="p")]
    with pytest.raises(UserError, match=f"no {gone} trace"):
        run(tmp_path, chat, first, second)


@given(
    before=st.sampled_from(["", "\n\n", "a <b ", "x <sa", "<<"]),
    block=st.sampled_from(["b", "\nb\n", "<b>", "i < j", ">x<"]),
    after=st.sampled_from(["a", "\n\na", ">a", "<safe a"]),
)
def test_tags_become_tokens_and_nothing_else_changes(chat, tagged, before, block, after):
    text = f"{before}<safe>{block}</safe>{after}"
    old = trace(chat, "I write <safe>x</safe> here", text)
    new = tags.as_tokens(old, chat, tagged)
    ids = new.completion_ids.tolist()
    assert tagged.decode(ids) == chat.decode(old.completion_ids)
    for tag in ("<safe>", "</safe>"):
        assert ids.count(tagged.encoder.control[tag]) == 1
    kept = new.source == Source.SAMPLED
    assert np.isnan(new.sampler_logp[~kept]).all() and np.isfinite(new.sampler_logp[kept]).all()
    pieces = {tag: len(chat.encode_plain(tag)) for tag in ("<safe>", "</safe>")}
    assert kept.sum() >= old.completion_ids.size - sum(pieces.values()) - 4, "only tokens that touch a tag are written"
    first = new.source.tolist().index(Source.INJECTED)
    assert ids[:first] == old.completion_ids[:first].tolist(), "the thinking is as it was"


def test_a_tokenizer_that_has_the_tags_is_refused(tagged, tmp_path):
    class Student:
        chat, path = tagged, "here"

    with pytest.raises(UserError, match="already"):
        tags.extend(epath.Path(tmp_path), Student())


@pytest.mark.parametrize("family, name", [("qwen3", "qwen3"), ("llama", "r1")])
@pytest.mark.parametrize("tied", [False, True])
def test_growing_keeps_the_model(tmp_path, family, name, tied):
    tokenizer = small(name)
    directory = tiny.directory(tmp_path / "old", family, tokenizer, {}, spread=0.3)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    model, params = hf.load(directory)
    if tied:
        config["tie_word_embeddings"] = True
        params = {name: leaf for name, leaf in params.items() if name != "head"}
        model = type(model)(type(model.config).from_hf(config))
        hf.save(tmp_path / "tied", model, params)
        (tmp_path / "tied" / "config.json").write_text(json.dumps(config))
        directory = str(tmp_path / "tied")
    size = model.config.vocab_size
    pieces = {size + 5: [10, 11, 12], size + 6: [13]}
    rows = vocabulary.grow(epath.Path(directory), epath.Path(tmp_path / "new"), pieces)
    assert rows == vocabulary.rows(size, size + 6) and rows % vocabulary.MULTIPLE == 0
    bigger, grown = hf.load(tmp_path / "new")
    assert bigger.config.vocab_size == rows
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert {**written, "vocab_size": size} == config, "nothing else changes"
    tokens = jax.random.randint(jax.random.key(0), (2, 9), 0, size)
    before, after = model.logits(params, tokens), bigger.logits(grown, tokens)
    np.testing.assert_allclose(after[..., :size], before, rtol=1e-5, atol=1e-5)
    for token, spelled in pieces.items():
        np.testing.assert_allclose(grown["embed"][token], params["embed"][np.array(spelled)].mean(0), rtol=1e-6)
        mean = before[..., np.array(spelled)].mean(-1)
        np.testing.assert_allclose(after[..., token], mean, rtol=1e-4, atol=1e-4)
    assert not np.asarray(grown["embed"][size]).any(), "rows for size only are zero"


def test_spare_rows_are_used(tmp_path):
    directory = tiny.directory(tmp_path / "old", "qwen3", small("qwen3"), {})
    size = json.loads((tmp_path / "old" / "config.json").read_text())["vocab_size"]
    assert vocabulary.grow(epath.Path(directory), epath.Path(tmp_path / "new"), {size - 1: [10]}) == size
    with pytest.raises(UserError, match="spelled"):
        vocabulary.grow(epath.Path(directory), epath.Path(tmp_path / "no"), {size: [size + 3]})


@pytest.mark.parametrize(
    "reply, value",
    [
        ("<think>it says yes</think>\nVerdict: yes", 1.0),
        ("<think>hm</think>**Verdict:** No.", 0.0),
        ("<think>hm</think>Verdict: yes\nVerdict: no", None),
        ("<think>hm</think>I cannot say", None),
        ("<think>Verdict: yes", None),
    ],
)
def test_a_judge_that_is_not_plain_is_unscored(reply, value):
    from lrm_align.recipes.indicators import QUESTIONS

    question = questions.make(QUESTIONS["f_safe"], "config.judge.questions.f_safe")
    score = question.read(reply)
    assert score.value == value and (value is None) == (score.reason is not None)
    assert question.read("<think>a</think>Verdict: yes", finished=False).value is None
