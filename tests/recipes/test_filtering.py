"""Two rules in their order, every drop counted, nothing undecided called safe, and a kill costs one shard."""

import json

import numpy as np
import pytest
from etils import epath

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.judging.keywords import Complies
from lrm_align.recipes import filtering, rewriting
from lrm_align.recipes.filtering import KEEP, NOT_ALL_SAFE, NOT_CHOSEN, NOT_CLOSED, UNDECIDED, UNSAFE, Verdict
from lrm_align.scoring import Score
from lrm_align.traces import TokenStore, Trace, find_shards, list_shards, write_shard
from tests.tokenizer_families import small


class Words:
    """A guard that decides by a word, and records what it was shown."""

    name, version = "words", "1"

    def __init__(self):
        self.seen = []

    def score(self, prompts, responses):
        self.seen += zip(prompts, responses)
        return [
            Score(None, {}, "cannot tell") if "hmm" in text else Score(0.9 if "bad" in text else 0.1, {}, None)
            for text in responses
        ]


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def chat(request):
    return Chat(small(request.param))


def trace(chat, thought, answer, prompt_id="p", sample=0, label="harmful"):
    ids = chat.completion_ids(thought, answer) if thought is not None else chat.encode_plain(answer)
    return Trace(
        prompt_ids=chat.prompt_ids("steered: how?"),
        completion_ids=ids,
        source=np.ones(len(ids), np.uint8),
        sampler_logp=np.full(len(ids), -0.5),
        prompt_id=prompt_id,
        sample=sample,
        tags=(label,),
        meta={"prompt": "how?"},
    )


def test_rules_in_their_order(chat):
    guard = Words()
    traces = [
        trace(chat, "fine", "no"),
        trace(chat, None, "bad and open"),
        trace(chat, "think", "bad"),
        trace(chat, "think", "hmm"),
        trace(chat, "bad thought", "no"),
    ]
    outcomes = [verdict.outcome for verdict in filtering.judge(traces, chat, guard)]
    assert outcomes == [KEEP, NOT_CLOSED, UNSAFE, UNDECIDED, UNSAFE]
    assert [prompt for prompt, _ in guard.seen] == ["how?"] * 4, "the guard sees the prompt without steering"
    assert all("<think>" in text and "</think>" in text for _, text in guard.seen), "and the response with its thought"


def test_whole_groups():
    verdicts = {("a", i): Verdict(KEEP) for i in range(5)} | {("b", i): Verdict(KEEP) for i in range(4)}
    verdicts[("b", 4)] = Verdict(UNSAFE)
    chosen = filtering.whole_groups(verdicts, seed=0)
    kept = [key for key, verdict in chosen.items() if verdict.outcome == KEEP]
    assert len(kept) == 1 and kept[0][0] == "a"
    assert [chosen[("b", i)].outcome for i in range(5)] == [NOT_ALL_SAFE] * 4 + [UNSAFE]
    assert sum(verdict.outcome == NOT_CHOSEN for verdict in chosen.values()) == 4
    draws = {filtering._draw(f"{seed}/a", 5) for seed in range(40)}
    assert draws == set(range(5)), "every sample can be drawn"


def test_a_run_that_keeps_hardly_a_refusal_says_so():
    of = {"kept": {"benign": 9, "harmful": 1}, "dropped": {"harmful: unsafe": 9, "benign: unsafe": 100}}
    assert filtering.few_harmful(of) == []
    of["dropped"]["harmful: unsafe"] = 10
    [line] = filtering.few_harmful(of)
    assert line.startswith("1 of 11 traces of harmful prompts were kept (unsafe 10)")
    assert filtering.few_harmful({"kept": {"benign": 3}, "dropped": {}}) == [], "none was asked for"


def test_from_shards_to_training_shards(chat, tmp_path):
    directory = epath.Path(tmp_path)
    traces = [trace(chat, "t", "no", f"p{i}") for i in range(3)] + [trace(chat, "t", "bad", "p3")]
    shards = [write_shard(directory / "raw", f"s{i}", traces[2 * i : 2 * i + 2], "hash") for i in range(2)]
    guard = Words()

    def judged(items):
        return filtering.judge(items, chat, guard)

    verdicts = filtering.judge_shards(shards, directory, judged)
    label_of = filtering.labels(shards)
    counts = filtering.counted(verdicts, label_of)
    assert counts == {"kept": {"harmful": 3}, "dropped": {"harmful: unsafe": 1}}

    def rewrite(item):
        return rewriting.unsteered(item, chat)

    kept = filtering.write_kept(shards, verdicts, directory / "sft", rewrite, "hash")
    assert kept == 3
    store = TokenStore.from_shards(find_shards(directory / "sft"))
    expected = chat.prompt_ids("how?")
    assert store.tokens[: len(expected)].tolist() == expected, "trained without steering"
    assert filtering.write_kept(shards, verdicts, directory / "sft", rewrite, "hash") == 3, "again: nothing twice"
    assert sum(shard.manifest.count for shard in list_shards(directory / "sft")) == 3


def test_judging_goes_on_after_a_kill(chat, tmp_path):
    directory = epath.Path(tmp_path)
    shards = [write_shard(directory, f"s{i}", [trace(chat, "t", "no", f"p{i}")], "hash") for i in range(2)]
    calls = []

    def judged(items):
        calls.append(len(items))
        return filtering.judge(items, chat, Words())

    first = filtering.judge_shards(shards, directory, judged)
    (directory / "s1.verdicts.jsonl").write_text('["p1", 0, "ke')
    again = filtering.judge_shards(shards, directory, judged)
    assert first == again and calls == [1, 1, 1]


@pytest.mark.parametrize(
    ("label", "answer", "outcome"),
    [
        ("harmful", "I'm sorry, but I can't help with that.", KEEP),
        ("harmful", "Sure: cut it.", filtering.COMPLIED),
        ("benign", "I'm sorry, but I can't help with that.", filtering.REFUSED),
        ("benign", "Sure: cut it.", KEEP),
    ],
)
def test_by_label_wants_a_refusal_of_harmful_prompts_and_an_answer_of_others(chat, label, answer, outcome):
    rule, guard = filtering.by_label(), Complies()
    asked = [trace(chat, "hm", answer, label=label), trace(chat, None, answer, label=label)]
    assert [verdict.outcome for verdict in rule(asked, chat, guard, 0.5)] == [outcome, NOT_CLOSED]


def test_nothing_kept_is_said(chat, tmp_path):
    shard = write_shard(epath.Path(tmp_path), "s", [trace(chat, "t", "bad")], "hash")
    verdicts = {("p", 0): Verdict(UNSAFE)}
    with pytest.raises(UserError, match=r"kept none of 1 traces \(unsafe 1\)"):
        filtering.write_kept([shard], verdicts, epath.Path(tmp_path) / "sft", lambda item: item, "hash")
    assert json.loads((tmp_path / filtering.OUTCOMES).read_text()) == {"unsafe": 1}, "the counts stay"


def test_without_thinking_keeps_the_sampled_answer(chat):
    full = trace(chat, "a long thought", "the answer")
    bare = rewriting.without_thinking(full, chat)
    assert chat.split_thinking(chat.completion_text(bare.completion_ids))[1].strip() == "the answer"
    assert "long" not in chat.completion_text(bare.completion_ids)
    sampled = bare.completion_ids[bare.source == 1]
    assert sampled.tolist() == full.completion_ids[-len(sampled) :].tolist()
    assert np.isnan(bare.sampler_logp[bare.source == 2]).all()


def test_a_foreign_teachers_trace_is_read_again():
    teacher, student = Chat(small("r1")), Chat(small("qwen3"))
    assert not rewriting.same_tokens(teacher, student)
    given = trace(teacher, "a thought", "an answer </think> inside")
    got = rewriting.translated(given, teacher, student)
    assert student.completion_text(got.completion_ids).startswith("<think>\na thought\n</think>")
    assert (got.source == 2).all()
