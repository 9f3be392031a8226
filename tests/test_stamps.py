"""A finished stage is what it was when it finished, or whoever uses it is told."""

import json
import os
import pathlib

import pytest
from etils import epath

from lrm_align import report, stamps
from lrm_align.errors import UserError
from lrm_align.models import hf_files
from lrm_align.recipes import stage as stages
from lrm_align.recipes.stage import Stage
from lrm_align.rl import beats


@pytest.fixture
def stage(tmp_path):
    directory = epath.Path(tmp_path / "export-0123456789")
    for name, text in {"model/config.json": "{}", "model/w.safetensors": "weights", "shards/a.json": "[1]"}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    stamps.write(directory, {"stage": "export", "summary": {"kept": {"harmful": 3}}, "format": stages.FORMAT})
    return directory


def lose(directory):
    (directory / "shards" / "a.json").unlink()


def cut(directory):
    (directory / "model" / "w.safetensors").write_text("weigh")


def flip(directory):
    (directory / "model" / "w.safetensors").write_text("weighta")


def add(directory):
    (directory / "shards" / "b.json").write_text("[2]")


def add_data(directory):
    (directory / "shards" / "b.array_record").write_text("[2]")


@pytest.mark.parametrize("harm", [lose, cut, flip, add, add_data], ids=lambda harm: harm.__name__)
def test_every_file_is_known(stage, harm):
    stamps.verify(stage)
    harm(stage)
    with pytest.raises(UserError, match=r"is not what it was when it finished: (shards|model)/"):
        stamps.verify(stage)


def test_other_jobs_end_after_the_stage_that_they_work_for(tmp_path):
    """A sampler's last groups and its last sign of life come when the trainer has stamped its stage."""
    directory = epath.Path(tmp_path / "reinforce-0123456789")
    with beats.Beat(directory / stamps.SHARED / "samplers", 0, 1, seconds=60):
        stamps.write(directory, {"stage": "reinforce", "summary": {}, "format": stages.FORMAT})
    (directory / stamps.SHARED / "groups").mkdir()
    (directory / stamps.SHARED / "groups" / "ticket-0.manifest.json").write_text("{}")
    stamps.verify(directory)


def test_a_stamp_without_its_seal_is_a_changed_one(stage):
    record = json.loads((stage / stamps.STAMP).read_text())
    del record["seal"]
    (stage / stamps.STAMP).write_text(json.dumps(record))
    with pytest.raises(UserError, match="its seal does not fit"):
        stamps.read(stage)


def test_a_change_that_keeps_size_and_time_is_found_where_all_is_read(stage):
    path = pathlib.Path(stage / "model" / "w.safetensors")
    about = path.stat()
    flip(stage)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    stamps.verify(stage)
    with pytest.raises(UserError, match=r"w\.safetensors was changed"):
        stamps.verify(stage, "model", whole=True)


def test_the_stamp_itself_is_sealed(stage):
    record = json.loads((stage / stamps.STAMP).read_text())
    record["summary"]["kept"]["harmful"] = 4
    (stage / stamps.STAMP).write_text(json.dumps(record, indent=1))
    with pytest.raises(UserError, match="its seal does not fit"):
        stamps.read(stage)


def test_a_report_shows_no_count_that_was_changed(stage, capsys):
    record = json.loads((stage / stamps.STAMP).read_text())
    record["summary"]["kept"]["harmful"] = 4
    (stage / stamps.STAMP).write_text(json.dumps(record))
    (stage.parent / "run.json").write_text(json.dumps({"config": {}, "name": "x", "command": []}))
    with pytest.raises(SystemExit) as end:
        report.main(["report", str(stage.parent)])
    assert end.value.code == 2 and "its seal does not fit" in capsys.readouterr().err


def test_cards_are_written_again(stage):
    (stage / "model" / "README.md").write_text("with results")
    stamps.verify(stage, whole=True)


def test_an_export_is_read_whole_before_it_is_used_as_a_model(stage):
    assert hf_files.resolve(stage / "model") == stage / "model"
    flip(stage)
    with pytest.raises(UserError, match=r"w\.safetensors was changed"):
        hf_files.resolve(stage / "model")


def test_unchanged_files_are_read_once(stage, monkeypatch):
    stamps.verify(stage)
    read = []
    monkeypatch.setattr(stamps.hashlib, "sha256", lambda *data: read.append(data) or __import__("hashlib").sha1(*data))
    monkeypatch.setattr(stamps, "_seal", lambda record: json.loads((stage / stamps.STAMP).read_text())["seal"])
    stamps.verify(stage)
    assert not read


@pytest.mark.parametrize("digests", ["", "[]", '{"export-0123456789/model/w.safetensors": [1, 2]}', "{"])
def test_a_broken_cache_of_checksums_is_no_harm(stage, digests):
    (stage.parent / stamps.DIGESTS).write_text(digests)
    stamps.verify(stage)


def chain(calls):
    def write(directory, _):
        calls.append("sample")
        (directory / "shard.json").write_text("[1, 2, 3]")
        return {"traces": 3}

    def train(directory, inputs):
        calls.append("train")
        return {"read": json.loads((inputs["sample"] / "shard.json").read_text())}

    return [Stage("sample", {}, write), Stage("train", {}, train, ("sample",))]


def test_a_stage_does_not_start_from_less_than_was_finished(tmp_path):
    workdir, calls = epath.Path(tmp_path), []
    stages.run(chain(calls), workdir, ["sample"], log=lambda line: None)
    next(tmp_path.glob("sample-*/shard.json")).write_text("[1, 2]")
    with pytest.raises(UserError, match=r"sample-\w+ is not what it was when it finished: shard.json has 6 bytes of 9"):
        stages.run(chain(calls), workdir, log=lambda line: None)
    assert calls == ["sample"]


def test_what_nothing_starts_from_may_be_thrown_away(tmp_path):
    workdir, calls = epath.Path(tmp_path), []
    first = stages.run(chain(calls), workdir, log=lambda line: None)
    next(tmp_path.glob("sample-*/shard.json")).unlink()
    assert stages.run(chain(calls), workdir, log=lambda line: None) == first and calls == ["sample", "train"]


def test_a_workdir_of_another_format_is_refused_in_one_line(tmp_path, monkeypatch):
    workdir = epath.Path(tmp_path)
    monkeypatch.setattr(stages, "FORMAT", 7)
    stages.run(chain([]), workdir, log=lambda line: None)
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=r"was written by another version: sample-\w+ has format 7, this version's is 1"
    ):
        stages.plan(chain([]), workdir)
