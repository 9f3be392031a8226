"""50 questions of XSTest and 30 of GSM8K, greedy: the texts are those of transformers, and so are the rates."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from lrm_align import evaluate
from lrm_align.chat import Chat
from lrm_align.scoring.refusals import declines
from lrm_align.traces import find_shards, read_shard
from tests import torch_reference as reference
from tests.real import runs

COUNTS, TOKENS = {"xstest": 50, "gsm8k": 30}, 48
TIE = 1e-3  # logits: where the two best of a token are so near, rounding may choose either


@pytest.fixture(scope="module")
def evaluation(real_model, tmp_path_factory):
    files = {"xstest": runs.SHARED / "xstest" / "xstest_prompts.csv", "gsm8k": runs.SHARED / "gsm8k" / "test.jsonl"}
    for file in files.values():
        if not file.is_file():
            pytest.skip(f"no {file}: set LRM_ALIGN_TEST_DATA")
    if not runs.small(real_model):
        pytest.skip(f"{real_model.name} takes too long on a CPU")
    workdir = tmp_path_factory.mktemp("evaluation")
    sets = [f"--config.sets.{name}.path={file}" for name, file in files.items()]
    sets += [f"--config.sets.{name}.limit={count}" for name, count in COUNTS.items()]
    sets += [f"--config.sets.{name}.samples=1" for name in COUNTS]
    long = [f"--config.sets.gsm8k.sampling.{key}={value}" for key, value in
            {"top_k": 0, "max_new_tokens": TOKENS, "max_length": 1024}.items()]  # fmt: skip
    short = ["--config.sample.temperature=0.0", f"--config.sample.max_new_tokens={TOKENS}"]
    short += ["--config.sample.max_length=1024", "--config.sample.slots=16"]
    config = [f"--config={runs.CONFIGS / 'evaluate.py'}:keywords", f"--config.model.path={real_model}"]
    mesh = [f"--config.mesh.{axis}=1" for axis in ("data", "fsdp", "tensor")]
    evaluate.main(["evaluate", *config, f"--workdir={workdir}", "--sets=xstest,gsm8k", *sets, *long, *short, *mesh])
    return workdir


@pytest.fixture(scope="module")
def texts(real_model, evaluation):
    """{set: [(trace, ids of transformers)]}, each up to its first end of turn."""
    model, ends = reference.load(real_model), set(Chat.from_pretrained(str(real_model)).stop_ids)

    def cut(ids):
        stop = next((i + 1 for i, one in enumerate(ids.tolist()) if one in ends), ids.size)
        return ids[:stop]

    found = {}
    for name in COUNTS:
        [directory] = [
            path.parent for path in evaluation.glob(f"{name}-*/finished.json") if "verdicts" not in str(path)
        ]
        traces = [trace for shard in find_shards(directory) for trace in read_shard(shard)]
        rows = reference.greedy_batch(model, [trace.prompt_ids for trace in traces], TOKENS)
        found[name] = list(zip(traces, map(cut, rows), strict=True))
    return model, found


def test_texts_are_those_of_transformers_up_to_ties(texts):
    model, found = texts
    for name, pairs in found.items():
        assert len(pairs) == COUNTS[name]
        same = 0
        for trace, expected in pairs:
            ours = trace.completion_ids
            shorter = min(ours.size, expected.size)
            differs = np.flatnonzero(ours[:shorter] != expected[:shorter])
            if not differs.size:
                assert ours.size == expected.size
                same += 1
                continue
            before = np.concatenate([trace.prompt_ids, expected[: differs[0]]])
            logits = reference.logits(model, before[None])[0, -1]
            best, other = logits[expected[differs[0]]], logits[ours[differs[0]]]
            assert best - other < TIE, f"{name} {trace.prompt_id}: token {differs[0]}, {best} against {other}"
        assert same >= 0.9 * len(pairs)


def test_the_rate_of_refusals_is_that_of_their_texts(real_model, evaluation, texts):
    chat = Chat.from_pretrained(str(real_model))
    refused = sum(declines(chat.completion_text(ids)) for _, ids in texts[1]["xstest"])
    results = {
        one["set"]: one for one in json.loads((evaluation / "evaluation.json").read_text())["evaluation"]["results"]
    }
    one = results["xstest"]
    assert one["judged_prompts"] == COUNTS["xstest"] and one["no_thought"] == COUNTS["xstest"]
    assert one["rate"] == pytest.approx(refused / COUNTS["xstest"], abs=0.021), "one tie may tip one answer"
    cut = sum(trace.stop_reason == "length" for trace, _ in texts[1]["xstest"])
    assert one["truncated"] == cut > 0 and one["unfinished_thoughts"] == 0
