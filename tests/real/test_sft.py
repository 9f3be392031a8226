"""The same 50 examples of STAR-1 as TRL's SFTTrainer learns from: ids, masks, and the first loss."""

import json
import os
import pathlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lrm_align import data, objectives
from lrm_align.chat import Chat
from lrm_align.models import load
from lrm_align.provenance import Source
from lrm_align.traces import Loader, Plan, TokenStore
from lrm_align.training.scores import batch_scores

COUNT, LONGEST = 50, 1024
IGNORED = -100  # PyTorch's label of a token that is not trained on
FIELDS = {"id": "1", "category": ["None"], "source": "ours", "score": 10}


def star1() -> list[dict]:
    """50 examples of STAR-1 where it is at hand, else as many in its columns."""
    root = pathlib.Path(os.environ.get("LRM_ALIGN_TEST_DATA", pathlib.Path(__file__).parents[3] / "shared"))
    place = root / "data" / "star1" / "STAR-1.json"
    if place.is_file():
        return json.loads(place.read_text())[:COUNT]
    return [
        {**FIELDS, "question": f"What is {n} + {n + 2}?",
         "response": f"<think>\nThe sum of {n} and {n + 2}.\n</think>\n\nIt is **{2 * n + 2}**.\n\nAnything else?"}
        for n in range(COUNT)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return star1()


@pytest.fixture(scope="module")
def theirs(real_model, rows, tmp_path_factory):
    if "smollm2" not in real_model.name:
        pytest.skip("two copies of a larger model take more memory than a small machine has")
    conversations = [
        {"prompt": [{"role": "user", "content": row["question"]}],
         "completion": [{"role": "assistant", "content": row["response"]}]}
        for row in rows
    ]  # fmt: skip
    settings = SFTConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), completion_only_loss=True, max_length=None, report_to=[],
        per_device_train_batch_size=4, gradient_checkpointing=False, bf16=False, use_cpu=True,
        remove_unused_columns=False, packing=False,
    )  # fmt: skip
    return SFTTrainer(
        AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32),
        settings,
        train_dataset=datasets.Dataset.from_list(conversations),
        processing_class=AutoTokenizer.from_pretrained(real_model),
    )


@pytest.fixture(scope="module")
def ours(real_model, rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "star1.json"
    file.write_text(json.dumps(rows))
    found = data.read(str(file))
    assert found.shape == "star1" and not found.dropped
    rendered = data.render(found.kept, Chat.from_pretrained(str(real_model)), thought="text")
    assert not rendered.dropped and len(rendered.traces) == len(rows)
    return rendered.traces


def test_ids_and_masks_are_those_of_trl_up_to_what_follows_the_end_of_the_turn(theirs, ours):
    for expected, trace in zip(theirs.train_dataset, ours, strict=True):
        ids, mask = np.array(expected["input_ids"]), np.array(expected["labels"]) != IGNORED
        np.testing.assert_array_equal(trace.ids, ids[: trace.length])
        np.testing.assert_array_equal(trace.sources == Source.INJECTED, mask[: trace.length])
        tail = theirs.processing_class.decode(ids[trace.length :])
        assert tail == "\n" and trace.ids[-1] == theirs.processing_class.eos_token_id


def test_the_first_loss_is_that_of_trl(theirs, ours, real_model):
    """On the common mask: what the template writes after the end is masked on their side as well."""
    chosen = [number for number, trace in enumerate(ours) if trace.length <= LONGEST][:4]
    batch = theirs.data_collator([theirs.train_dataset[number] for number in chosen])
    for row, number in enumerate(chosen):
        batch["labels"][row, ours[number].length :] = IGNORED
    with torch.no_grad():
        expected = float(theirs.compute_loss(theirs.model.eval(), dict(batch)))
    model, params = load(real_model, dtype="float32")
    plan = Plan([ours[n].length for n in chosen], row_length=LONGEST, seed=0, batch_traces=4)
    loader = Loader(TokenStore.from_traces([ours[n] for n in chosen]), plan, train_sources=(Source.INJECTED,))
    objective, first = objectives.sft(), loader.batch(0)
    scores = batch_scores(model, params, None, first, objective.needs)
    loss, _ = objective.loss(scores, first, objective.normalizers(first))
    assert first.loss_mask_BxT.sum() == (batch["labels"][:, 1:] != IGNORED).sum()
    assert float(loss) == pytest.approx(expected, abs=1e-4)
