import json
import os

import pytest
from etils import epath

from lrm_align.errors import UserError
from lrm_align.traces import Manifest, find_shards, list_shards, read_shard, verify, write_shard
from lrm_align.traces.__main__ import main
from lrm_align.traces.manifest import SUFFIX
from tests.object_store import ObjectStorePath

RECIPE = "recipe-0123456789"


@pytest.fixture(params=["disk", "store"])
def directory(request, tmp_path):
    ObjectStorePath.objects.clear()
    return tmp_path / "shards" if request.param == "disk" else epath.Path("fake://bucket/shards")


def test_what_was_written_is_read_by_index(directory, make_trace):
    traces = [make_trace(i, prompt=i + 1, completion=2 * i + 1, policy=i % 2, tags=("a",) * (i % 2)) for i in range(5)]
    shard = write_shard(directory, "part-0", traces, RECIPE)
    reader = read_shard(shard)
    assert list(reader) == traces and reader[3] == traces[3] and reader[-1] == traces[-1]
    assert reader[1:3] == traces[1:3] and len(reader) == 5
    with pytest.raises(IndexError):
        reader[5]
    manifest = verify(shard.path)
    assert manifest == shard.manifest == list_shards(directory)[0].manifest
    assert manifest.lengths == tuple((i + 1, 2 * i + 1) for i in range(5))
    assert (manifest.policies, manifest.tags, manifest.count) == ((0, 1), {"a": 2}, 5)
    assert [found.path for found in find_shards(directory)] == [shard.path]
    assert list_shards(epath.Path(directory) / "nothing") == []


def test_a_finished_shard_is_never_overwritten(directory, make_trace):
    shard = write_shard(directory, "a", [make_trace(0)], RECIPE)
    with pytest.raises(UserError, match="already there"):
        write_shard(directory, "a", [make_trace(1)], RECIPE)
    assert list(read_shard(shard)) == [make_trace(0)]


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_manifest_cut_by_a_kill_is_absent_and_can_be_written_again(directory, make_trace, keep):
    shard = write_shard(directory, "a", [make_trace(0)], RECIPE)
    place = epath.Path(directory) / shard.manifest.file_name
    place.write_bytes(place.read_bytes()[:keep])
    assert list_shards(directory) == []
    with pytest.raises(UserError, match="never finished"):
        read_shard(shard.path)
    write_shard(directory, "a", [make_trace(1)], RECIPE)
    assert [list(read_shard(found)) for found in list_shards(directory)] == [[make_trace(1)]]


def test_data_without_a_manifest_does_not_exist(directory, make_trace):
    shard = write_shard(directory, "a", [make_trace(0)], RECIPE)
    other = epath.Path(directory) / "b-0123456789ab.array_record"
    other.write_bytes(shard.path.read_bytes())
    assert len(list_shards(directory)) == 1
    with pytest.raises(UserError, match="b-0123456789ab"):
        read_shard(other)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign", "other shard", "missing"])
def test_damaged_data_is_named_and_refused(tmp_path, make_trace, damage, capsys):
    shard = write_shard(tmp_path, "a", [make_trace(i) for i in range(20)], RECIPE)
    other = write_shard(tmp_path / "other", "a", [make_trace(i) for i in range(20, 40)], RECIPE)
    data = shard.path.read_bytes()
    altered = {
        "flip": data[:70_000] + bytes([data[70_000] ^ 1]) + data[70_001:],
        "truncate": data[: len(data) // 2],
        "empty": b"",
        "foreign": b"not an array record" * 9000,
        "other shard": other.path.read_bytes(),
    }
    shard.path.unlink() if damage == "missing" else shard.path.write_bytes(altered[damage])
    for use in (read_shard, verify):
        with pytest.raises(UserError, match=shard.path.name):
            use(shard)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and shard.path.name in error


def test_a_damaged_manifest_is_not_taken_for_a_cut_one(tmp_path, make_trace):
    shard = write_shard(tmp_path, "a", [make_trace(0)], RECIPE)
    place = tmp_path / shard.manifest.file_name
    text = place.read_text()
    for old, new in [('"count": 1', '"count": 2'), ('"lengths"', '"len\x00ths"'), ("lrm_align.shard", "lrm_elsewhere")]:
        place.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=place.name):
            list_shards(tmp_path)
    fields = json.loads(text)
    place.write_text(json.dumps([fields]) + "}\n")
    with pytest.raises(UserError, match=place.name):
        list_shards(tmp_path)


def test_records_that_disagree_with_a_well_formed_manifest_are_refused(tmp_path, make_trace):
    shard = write_shard(tmp_path, "a", [make_trace(0), make_trace(1)], RECIPE)
    fields = {name: getattr(shard.manifest, name) for name in Manifest.__dataclass_fields__}
    for change in ({"keys": (("p0", 0), ("p9", 0))}, {"tags": {"benign": 2}}, {"policies": (7,)}):
        forged = Manifest(**{**fields, **change})
        (tmp_path / forged.file_name).write_text(forged.to_json())
        with pytest.raises(UserError, match="a"):
            verify(tmp_path / forged.data)


def test_a_manifest_cannot_lead_out_of_its_directory(tmp_path, make_trace):
    shard = write_shard(tmp_path / "in", "a", [make_trace(0)], RECIPE)
    fields = {name: getattr(shard.manifest, name) for name in Manifest.__dataclass_fields__}
    forged = Manifest(**{**fields, "data": "../../secret"})
    (tmp_path / "in" / forged.file_name).write_text(forged.to_json())
    with pytest.raises(UserError, match="contradict"):
        list_shards(tmp_path / "in")
    for name in ("../a", "a/b", "", ".a", "a\n"):
        with pytest.raises(UserError, match="shard name"):
            write_shard(tmp_path, name, [], RECIPE)


def test_places_that_are_no_shards(tmp_path, make_trace):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "absent"):
        with pytest.raises(UserError, match=path.name):
            read_shard(path)
    with pytest.raises(UserError, match=r"notes\.txt"):
        write_shard(tmp_path / "notes.txt", "a", [make_trace(0)], RECIPE)
    write_shard(tmp_path, "a", [], RECIPE)
    assert list(read_shard(tmp_path)) == []
    with pytest.raises(UserError, match="another recipe"):
        list_shards(tmp_path, "another")


def test_a_manifest_that_is_no_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / f"x{SUFFIX}")
    with pytest.raises(UserError, match="a FIFO, where a regular file is expected"):
        list_shards(tmp_path)
