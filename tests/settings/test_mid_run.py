"""In the middle of a run: what cannot change a result changes and the same stages go on; what can starts them anew."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from lrm_align import main, settings
from lrm_align.recipes import stage as stages
from lrm_align.settings import RunSettings
from tests.fixtures import make_workdir

FIXTURE = pathlib.Path(make_workdir.__file__).parent / f"workdir_{stages.FORMAT}"
# Every neutral setting that the stages of the fixture read, at another value.
NEUTRAL = {
    "model.remat": "full",
    "model.attention": "einsum",
    "sample.lanes": 1,
    "guard.sharded": False,
    "train.log_every": 3,
    "train.checkpoint_every": 5,
    "train.keep": 1,
    "seeds": 1,
}
ELSEWHERE = ("serve.", "rl.", "mesh.", "preference.", "evaluate.guard", "sets.", "answers.", "explore.", "analysis.",
             "audit.", "continuation.", "judge.", "guard.devices", "model.path", "wandb")  # fmt: skip


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(FIXTURE, tmp_path / "run")


def command(run, changes):
    arguments = make_workdir.arguments(FIXTURE / make_workdir.SAVED, run.parent)
    return [*arguments, f"--workdir={run}", *(f"--config.{key}={value}" for key, value in changes.items())]


def test_all_neutral_settings_are_here():
    names = {path for path, one in settings.paths(RunSettings) if one.neutral and not path.startswith(ELSEWHERE)}
    assert names == {*NEUTRAL}


def test_neutral_settings_change_and_the_same_stages_go_on(run, capsys):
    before = sorted(path.name for path in run.iterdir())
    main.main(command(run, NEUTRAL))
    said = capsys.readouterr().out
    assert "[sample] finished before" in said and "[filter] finished before" in said
    assert [name for name in sorted(path.name for path in run.glob("*-*")) if name not in before] == []
    (metrics,) = run.glob("train-*/metrics.jsonl")
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[: make_workdir.KILLED_AT] == [*range(make_workdir.KILLED_AT)], "the rows before the stop are kept"


MESH = {"mesh.fsdp": 2, "mesh.data": 2}


@pytest.mark.slow
def test_another_mesh_goes_on(run):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "lrm_align.main", *command(run, MESH)[1:]],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len([*run.glob("train-*")]) == 1 and "[filter] finished before" in done.stdout
    assert list(run.glob("train-*/finished.json"))


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"train.chunk": 64}, {"filter.strip_thinking": True}, {"sample.slots": 8}])
def test_another_setting_starts_what_reads_it_anew(run, change, capsys):
    main.main(command(run, change))
    said = capsys.readouterr().out
    (changed,) = change
    again = {"train": ["train"], "filter": ["filter", "train"], "sample": ["sample", "filter", "train"]}
    for stage in ("sample", "filter", "train"):
        anew = stage in again[changed.partition(".")[0]]
        assert len([*run.glob(f"{stage}-*")]) == (2 if anew else 1), stage
        assert (f"[{stage}] finished before" not in said) or not anew
