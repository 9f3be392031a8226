"""What a version left on a disk: later versions go on with it or refuse it in one line, and its shards stay readable.

`fixtures/workdir_N` is a quickstart of format N with few prompts, stopped in the middle of its training: the shards of
two finished stages, and a checkpoint. `fixtures/make_workdir.py` makes the one of the present format.
"""

import json
import pathlib
import shutil

import pytest

from lrm_align import main
from lrm_align.recipes import stage as stages
from lrm_align.traces import __main__ as traces
from lrm_align.traces import find_shards, read_shard
from tests.fixtures import make_workdir

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FORMATS = sorted(int(path.name.rpartition("_")[2]) for path in FIXTURES.glob("workdir_*"))


def workdir(number, tmp_path):
    return shutil.copytree(FIXTURES / f"workdir_{number}", tmp_path / "run")


def arguments(number, tmp_path):
    return make_workdir.arguments(FIXTURES / f"workdir_{number}" / make_workdir.SAVED, tmp_path)


def test_there_is_one_of_every_format():
    assert [*range(stages.FORMAT + 1)] == FORMATS


@pytest.mark.parametrize("number", FORMATS)
def test_shards_stay_readable(number, tmp_path, capsys):
    for directory in sorted(workdir(number, tmp_path).glob("sample-*")):
        read = [trace for shard in find_shards(directory) for trace in read_shard(shard)]
        assert len(read) == 26 and all(trace.meta["prompt"] and trace.stop_reason for trace in read)
        traces.main([str(directory), "--limit=1"])
        assert "26" in capsys.readouterr().out


@pytest.mark.parametrize("number", FORMATS[:-1])
def test_another_format_is_refused_in_one_line(number, tmp_path, capsys):
    place = workdir(number, tmp_path)
    with pytest.raises(SystemExit) as end:
        main.main([*arguments(stages.FORMAT, tmp_path), f"--workdir={place}"])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert end.value.code == 2 and len(said) == 1 and f"has format {number}, this version's is" in said[0]


def test_the_present_format_goes_on(tmp_path, capsys):
    place = workdir(stages.FORMAT, tmp_path)
    main.main([*arguments(stages.FORMAT, tmp_path), f"--workdir={place}"])
    said = capsys.readouterr().out
    assert "[sample] finished before" in said and "[filter] finished before" in said
    assert f"step {make_workdir.KILLED_AT}" in said, "the training went on from its checkpoint"
    (stamp,) = place.glob("train-*/finished.json")
    rows = [json.loads(line) for line in (stamp.parent / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(json.loads(stamp.read_text())["summary"]["steps"])]
