"""What a step says of itself: figures by hand, and warnings that name the cause."""

import json

import numpy as np
import pytest

from lrm_align.advantages import Group
from lrm_align.chat import Prompt
from lrm_align.provenance import Source
from lrm_align.rewards import Reward
from lrm_align.rl import watch
from lrm_align.rl.group import TraceGroup, group_id
from lrm_align.rl.table import MOST_ROWS, RolloutTable
from lrm_align.scoring import Score
from lrm_align.traces import Trace

GOOD = Score(1.0)


def trace(tokens: int = 3, *, ticket: int = 0, sample: int = 0, stop: str = "stop", score: Score = GOOD) -> Trace:
    ids = np.random.default_rng((ticket, sample)).integers(3, 99, tokens)
    return Trace(
        np.array([1, 2]),
        ids,
        np.full(tokens, Source.SAMPLED, np.uint8),
        np.full(tokens, -0.5),
        sampling={"max_new_tokens": 8},
        prompt_id=f"p@{ticket}",
        group_id=group_id(ticket),
        sample=sample,
        stop_reason=stop,
        scores={"guard": score.to_dict()},
    )


def step_of(values, policies=(3, 3), modes=None, **traces):
    """Groups of samples that earn these values (None is unscored), with their rewards and credit."""
    rewards = [
        [Reward.unscored("guard: hm") if v is None else Reward(v, {"safe": v}) for v in group] for group in values
    ]
    groups = [
        TraceGroup(k, policy, tuple(trace(ticket=k, sample=n, **traces) for n in range(len(group))))
        for k, (group, policy) in enumerate(zip(values, policies, strict=True))
    ]
    reward_GxN = np.array([[v or 0.0 for v in group] for group in values], np.float32)
    valid_GxN = np.array([[v is not None for v in group] for group in values], np.float32)
    credit = Group(
        reward_GxN,
        valid_GxN,
        mode_GxN=None if modes is None else np.array(modes),
        class_G=np.array([0, 1]),
        mode_names=("consult", "direct"),
        class_names=("harmful", "benign"),
    )
    return groups, rewards, credit


def test_metrics_by_hand():
    groups, rewards, credit = step_of([[1.0, 0.0], [1.0, None]], policies=(3, 1), modes=[[0, 1], [0, -1]], tokens=4)
    row = watch.metrics(3, groups, groups[:1], credit) | watch.part_means(rewards)
    assert row == {
        "staleness/mean": 1.0,
        "staleness/max": 2.0,
        "groups/without_spread": 0.5,
        "groups/dropped": 1.0,
        "samples/unscored": 0.25,
        "samples/truncated": 0.0,
        "length/mean": 4.0,
        "length/max": 4.0,
        "unscored/guard": 0.0,
        "reward/mean": pytest.approx(2 / 3),
        "reward/harmful": 0.5,
        "reward/benign": 1.0,
        "reward/part/safe": pytest.approx(2 / 3),
        "mode/consult": 0.5,
        "mode/consult/harmful": 0.5,
        "mode/consult/benign": 0.5,
        "mode/direct": 0.25,
        "mode/direct/harmful": 0.5,
        "mode/direct/benign": 0.0,
    }
    assert watch.metrics(3, [], groups, credit) == {"groups/dropped": 2.0}


def test_lengths_have_bins_up_to_the_limit():
    groups = [TraceGroup(0, 0, (trace(1), trace(16), trace(2)))]
    found = watch.lengths(groups, 16)
    assert found.edges == list(range(17)) and found.counts == [1, 1, *[0] * 13, 1]
    assert sum(watch.lengths(groups, 8).counts) == 3


def test_a_good_step_has_no_warnings():
    groups, rewards, credit = step_of([[1.0, 0.0], [1.0, 0.5]])
    assert watch.warnings(3, groups, rewards, credit, gap_mean=0.001) == {}


def test_all_truncated_names_the_limit():
    for tokens, setting in ((8, "max_new_tokens"), (5, "max_length")):
        groups, rewards, credit = step_of([[1.0, 0.0], [1.0, 0.5]], tokens=tokens, stop="length")
        [(kind, text)] = watch.warnings(3, groups, rewards, credit).items()
        assert kind == "truncated" and f"raise config.rl.sampling.{setting}" in text


def test_no_spread_says_which_kind():
    groups, rewards, credit = step_of([[1.0, 1.0], [1.0, 1.0]])
    assert "every sample earns 1: the reward is constant" in watch.warnings(3, groups, rewards, credit)["spread"]
    groups, rewards, credit = step_of([[1.0, 1.0], [0.0, 0.0]])
    text = watch.warnings(3, groups, rewards, credit)["spread"]
    assert "the samples of a prompt earn the same" in text and "copies" not in text
    same = [TraceGroup(k, 3, (trace(), trace())) for k in range(2)]
    assert "is the temperature too low?" in watch.warnings(3, same, rewards, credit)["spread"]


def test_a_grader_that_scores_nothing_is_named_with_its_reason():
    groups, rewards, credit = step_of([[None, None], [None, None]], score=Score.unscored("unreachable, OSError"))
    found = watch.warnings(3, groups, rewards, credit)
    assert found == {
        "unscored/guard": "grader 'guard' left 4 of 4 samples unscored, 4 of them because: unreachable, OSError",
        "unscored": "none of 4 samples has a reward, 4 of them because: guard: hm",
    }


def test_a_gap_counts_with_equal_weights_only():
    groups, rewards, credit = step_of([[1.0, 0.0], [1.0, 0.5]])
    assert "0.300 nats" in watch.warnings(3, groups, rewards, credit, gap_mean=0.3)["gap"]
    groups, rewards, credit = step_of([[1.0, 0.0], [1.0, 0.5]], policies=(3, 2))
    assert watch.warnings(3, groups, rewards, credit, gap_mean=0.3) == {}


def sample_rows(step: int, count: int = 2, text: str = "said"):
    groups, rewards, _ = step_of([[1.0, 0.0], [1.0, None], [0.0, 0.5]], policies=(3, 3, 2))
    prompts = {k: Prompt(f"p{k}", f"ask {k}", "benign") for k in range(3)}
    advantages = np.arange(6).reshape(3, 2)
    return watch.sample_rows(step, groups, rewards, advantages, prompts.__getitem__, lambda trace: text, count)


def test_sample_rows_take_turns():
    rows = sample_rows(step=5)
    assert [(row["ticket"], row["sample"], row["advantage"], row["policy"]) for row in rows] == [
        (0, 1, 1.0, 3),
        (2, 1, 5.0, 2),
    ]
    assert [row["sample"] for row in sample_rows(step=6, count=9)] == [0, 0, 0]
    assert rows[0]["prompt"] == "ask 0" and rows[0]["scores"]["guard"]["value"] == 1.0
    assert sample_rows(step=5, count=3)[1]["reason"] == "guard: hm"


def test_the_table_resumes_and_keeps_lines_whole(tmp_path):
    evil = "</script>\u2028\n\x1b[31mred"
    table = RolloutTable(tmp_path)
    for step in range(3):
        table.add(sample_rows(step, text=evil))
    table.flush()
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 1, "te')
    table = RolloutTable(tmp_path, start=2)
    table.add(sample_rows(2, text=evil))
    text = (tmp_path / "rollouts.jsonl").read_bytes().decode("ascii")
    assert "\x1b" not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [0, 0, 1, 1, 2, 2] and rows[0]["text"] == evil
    table.add(sample_rows(3, count=1) * MOST_ROWS)
    table.flush()
    assert len((tmp_path / "rollouts.jsonl").read_text().splitlines()) == MOST_ROWS
