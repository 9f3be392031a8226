"""Finished stages are skipped, changed ones run again, and killed ones go on."""

import errno
import os

import pytest
from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import UserError
from lrm_align.recipes import stage as stages
from lrm_align.recipes.stage import Stage


def recipe(calls, size=1, fail=False):
    def sample(directory, inputs):
        calls.append("sample")
        (directory / "data").write_text("x" * size)
        return {"size": size}

    def train(directory, inputs):
        calls.append("train")
        if fail:
            raise KeyboardInterrupt
        return {"read": len((inputs["sample"] / "data").read_text())}

    def measure(directory, inputs):
        calls.append("measure")
        return {}

    return [
        Stage("sample", {"size": size}, sample),
        Stage("train", {"rate": 1.0}, train, ("sample",)),
        Stage("measure", {}, measure),
    ]


def run(tmp_path, *args, names=None, **kwargs):
    calls = []
    summaries = stages.run(recipe(calls, *args, **kwargs), epath.Path(tmp_path), names, log=lambda line: None)
    return calls, summaries


def test_finished_stages_are_skipped_and_summaries_kept(tmp_path):
    calls, first = run(tmp_path)
    assert calls == ["sample", "train", "measure"]
    calls, again = run(tmp_path)
    assert calls == [] and again == first == {"sample": {"size": 1}, "train": {"read": 1}, "measure": {}}


def test_a_change_runs_the_stage_and_what_depends_on_it(tmp_path):
    run(tmp_path)
    calls, summaries = run(tmp_path, 2)
    assert calls == ["sample", "train"] and summaries["train"] == {"read": 2}
    calls, summaries = run(tmp_path, 1)
    assert calls == [] and summaries["train"] == {"read": 1}, "the first results are still there"


def test_named_stages_bring_what_they_depend_on(tmp_path):
    calls, _ = run(tmp_path, names=["train"])
    assert calls == ["sample", "train"]


def test_an_unknown_stage_is_named(tmp_path):
    with pytest.raises(UserError, match=r"trian.*sample, train, measure"):
        run(tmp_path, names=["trian"])


def test_an_interrupted_stage_runs_again_in_its_directory(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fail=True)
    calls, _ = run(tmp_path)
    assert calls == ["train", "measure"]


def test_what_a_killed_writer_left_goes_and_a_failing_disk_names_the_stage(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fail=True)
    (train,) = tmp_path.glob("train-*")
    (train / f"{atomic_files.PARTIAL}0").write_text("half")

    def full(directory, inputs):
        assert not list(directory.iterdir())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "metrics.jsonl"))

    with pytest.raises(UserError, match=f"^stage train: cannot write {train}/metrics.jsonl: No space left on device; "):
        stages.run([*recipe([])[:1], Stage("train", {"rate": 1.0}, full, ("sample",))], epath.Path(tmp_path))


@pytest.mark.parametrize("content", ["", '{"stage": "sam', "[]", "null"])
def test_a_cut_stamp_does_not_count(tmp_path, content):
    run(tmp_path)
    next(tmp_path.glob("sample-*/finished.json")).write_text(content)
    calls, _ = run(tmp_path)
    assert calls == ["sample"]
