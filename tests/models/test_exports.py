"""A run's name stands for its last export, and so do WORKDIR/model and WORKDIR/adapters."""

import pathlib

import pytest
from etils import epath

from lrm_align import stamps
from lrm_align.errors import UserError
from lrm_align.models import exports, hf_files


@pytest.fixture
def workdir(tmp_path):
    directory = epath.Path(tmp_path / "mine")
    directory.mkdir()
    (directory / "run.json").write_text("{}")
    return directory


def export(workdir, name, at, kinds=("model", "adapters")):
    stage = workdir / name
    for kind in kinds:
        (stage / kind).mkdir(parents=True)
        (stage / kind / "config.json").write_text(name)
    stamps.write(stage, {"stage": "export", "at": at, "summary": {}, "format": 1})
    return stage


def test_it_is_the_one_that_finished_last_and_its_links_follow(workdir):
    export(workdir, "export-b", "2026-01-01")
    exports.link(workdir)
    newer = export(workdir, "export-a", "2026-01-02")
    (workdir / "export-c" / "model").mkdir(parents=True)  # killed before its stamp
    assert hf_files.resolve(workdir) == newer / "model" == exports.named(workdir / "model")
    assert exports.named(workdir, "adapters") == newer / "adapters" == exports.named(workdir / "adapters")
    assert (workdir / "model" / "config.json").read_text() == "export-b", "for other programs: as of the last run"
    exports.link(workdir)
    assert pathlib.Path(workdir / "adapters").readlink() == pathlib.Path("export-a/adapters"), "a workdir can be moved"
    assert (workdir / "model" / "config.json").read_text() == "export-a"
    assert sorted(path.name for path in workdir.iterdir() if path.name.startswith(".")) in ([], [".digests.json"])


def test_a_moved_run_is_found(workdir, tmp_path):
    export(workdir, "export-a", "2026-01-01")
    exports.link(workdir)
    workdir.rename(tmp_path / "moved")
    assert hf_files.resolve(tmp_path / "moved" / "model").parent.name == "export-a"
    assert pathlib.Path(tmp_path / "moved" / "model" / "config.json").is_file()


def test_what_lies_there_already_is_left_alone(workdir):
    export(workdir, "export-a", "2026-01-01", ("model",))
    (workdir / "model").mkdir()
    (workdir / "model" / "config.json").write_text("own")
    exports.link(workdir)
    assert exports.named(workdir / "model") == workdir / "model"
    assert (workdir / "model" / "config.json").read_text() == "own"


def test_without_an_export_the_reason_is_said(workdir):
    with pytest.raises(UserError, match="this run has written no model yet"):
        hf_files.resolve(workdir)
    export(workdir, "export-a", "2026-01-01", ("model",))
    with pytest.raises(UserError, match="this run has written no adapters yet"):
        exports.named(workdir / "adapters")


def test_runs_of_several_seeds_are_named_one_by_one(workdir, tmp_path):
    both = tmp_path / "both"
    for seed in (0, 1):
        (both / f"seed_{seed}").mkdir(parents=True)
        (both / f"seed_{seed}" / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a run for each of 2 seeds; name one, as .*seed_0"):
        hf_files.resolve(both)


@pytest.mark.parametrize("name", ["", "model", "none/model", "Qwen/Qwen3-0.6B"])
def test_other_paths_are_what_they_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exports.named(epath.Path(name)) == epath.Path(name)
