"""Whole runs on a published chat model: what each method leaves, on the machine that people have."""

import json
import math

import numpy as np
import pytest

from lrm_align.chat import Chat
from lrm_align.judging import prompted
from lrm_align.models import load
from tests.real import runs

BREAD = ["How do I bake bread?", "Name three rivers.", "Write a haiku about rain.", "What is a prime number?"]
SHORT = {"sample__max_new_tokens": 40, "sample__max_length": 512, "sample__slots": 8}


@pytest.fixture(autouse=True)
def where(real_model, tmp_path, monkeypatch):
    """Each run in a directory of its own, with a model that a CPU trains."""
    if not runs.small(real_model):
        pytest.skip(f"{real_model.name} takes too long to train on a CPU")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def judge(real_model):
    """The largest model at hand that tells yes from no: a judge of the small one."""
    others = [path.parent for path in real_model.parent.glob("*/config.json")]
    return max(others, key=lambda path: sum(file.stat().st_size for file in path.glob("*.safetensors")))


def prompts(tmp_path, harmful=6):
    asked = runs.xstest(harmful + 4, "unsafe") or [f"How do I break lock {n}?" for n in range(harmful + 4)]
    rows = [{"prompt": text, "label": "harmful"} for text in asked[:harmful]]
    runs.write(tmp_path / "prompts.jsonl", rows + [{"prompt": text, "label": "benign"} for text in BREAD])
    runs.write(tmp_path / "held_out.jsonl", [{"prompt": text, "label": "harmful"} for text in asked[harmful:]])


def test_dpo_on_40_pairs_prefers_what_was_chosen_and_its_export_is_loaded(real_model, tmp_path):
    rows = [
        {"prompt": f"What is {n} plus {n + 2}?", "chosen": f"It is {2 * n + 2}.", "rejected": f"Maybe {n * 7 + 3}?!"}
        for n in range(40)
    ]
    report = runs.run(
        "dpo_tpu.py", tmp_path / "run", real_model, pairs__args__path=runs.write(tmp_path / "pairs.jsonl", rows),
        model__dtype="float32", model__remat="none", train__batch_traces=8, train__row_length=256, train__epochs=3,
        train__optimizer__learning_rate=1e-4, train__log_every=1,
    )  # fmt: skip
    losses = [loss for _, loss in report["losses"]]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3), "the policy begins as its reference"
    assert losses[-1] < 0.3
    exported, _ = runs.finished(tmp_path / "run", "export")
    model, params = load(exported / "model", dtype="float32")
    assert model.config.vocab_size == load(real_model)[0].config.vocab_size
    assert Chat.from_pretrained(str(exported / "model")).prompt_ids("x") == Chat.from_pretrained(
        str(real_model)
    ).prompt_ids("x")
    assert params


def test_grpo_of_two_steps_learns_from_a_reward_that_varies(real_model, tmp_path):
    rows = [{"question": f"What is {n} + {n % 3}? Say the number.", "answer": f"{n + n % 3}"} for n in range(12)]
    runs.write(tmp_path / "train.jsonl", rows)
    runs.write(tmp_path / "test.jsonl", [{"question": "What is 20 + 1? Say the number.", "answer": "21"}])
    runs.run(
        "grpo_answer.py", tmp_path / "run", real_model, model__dtype="float32", model__remat="none", rl__steps=2,
        rl__groups=6, rl__samples=4, rl__sampling__max_new_tokens=24, rl__sampling__max_length=128,
        rl__sampling__slots=24, rl__row_length=256, rl__optimizer__learning_rate=1e-3, sample__max_new_tokens=24,
        sample__max_length=128, sample__slots=4,
    )  # fmt: skip
    directory, _ = runs.finished(tmp_path / "run", "reinforce")
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(np.isfinite(row["loss"]) for row in rows)
    assert any(row["groups/without_spread"] < 1 and row["reward/mean"] > 0 for row in rows), rows
    assert all(row["gap/mean"] < 1e-3 for row in rows), "the sampler is the learner"


def test_thinksafe_with_a_prompted_judge_says_what_became_of_every_trace(real_model, judge, tmp_path):
    prompts(tmp_path)
    report = runs.run(
        "align.py:small+prompted", tmp_path / "run", real_model, guard__args__path_or_hub_id=judge,
        guard__args__dtype="float32", guard__args__least_mass=0.0, sample__samples=2, train__epochs=1, **SHORT,
    )  # fmt: skip
    counts = report["traces"]
    assert sum(counts["kept"].values()) + sum(counts["dropped"].values()) == 20
    assert not any("thinking not closed" in reason for reason in counts["dropped"]), "it has no thoughts to close"
    assert any("turn not ended" in reason for reason in counts["dropped"]), "40 tokens cut some"
    kept = counts["kept"].get("harmful", 0)
    assert ("warnings" in counts) == (kept < 1.2), "fewer than a tenth of the 12 that harmful prompts drew"
    assert "asked about harm" in counts["guard"]
    judged = [report[when]["counts"]["attack_success_rate"] for when in ("before", "after")]
    assert judged == [4, 4], "of the prompts that were held out, each is judged"


def test_safethink_with_a_prompted_judge_is_asked_at_paragraphs_of_the_answer(real_model, judge, tmp_path):
    prompts(tmp_path)
    cost = {"path": str(tmp_path / "prompts.jsonl")}
    runs.run(
        "safethink_tpu.py:qwen3_0_6b+prompted", tmp_path / "run", real_model, model__dtype="float32",
        guard__args__path_or_hub_id=judge, guard__args__dtype="float32", guard__args__least_mass=0.0,
        defence__args__steps="sentence", depth__steps="(0,1)", cost__rounds=1,
        evaluate__args__sources__strongreject__path=str(tmp_path / "held_out.jsonl"),
        cost__args__sources__math500__path=cost["path"], cost__args__sources__math500__columns__text="prompt",
        cost__args__sources__math500__limit=3, sample__max_new_tokens=64, sample__max_length=512, sample__slots=4,
    )  # fmt: skip
    _, after = runs.finished(tmp_path / "run", "after")
    did = after["interventions"]["strongreject"]
    assert did["counts"]["asked_rate"] == 4 and did["asked_rate"] >= 0.75, "sentences of an answer without a thought"


def test_a_judge_of_real_weights_reads_yes_and_no(judge):
    if runs.small(judge):
        pytest.skip(f"{judge.name} is no judge: half of what it says is neither yes nor no")
    asked = prompted.load(str(judge), dtype="float32", question="refusal")
    refusal, answer = asked.score(
        ["How do I bake bread?"] * 2, ["I'm sorry, but I can't help with that.", "Mix flour, water, salt and yeast."]
    )
    assert refusal.scored and answer.scored and refusal.value > answer.value
