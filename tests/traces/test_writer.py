import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from lrm_align.errors import UserError
from lrm_align.traces import ShardWriter, list_shards, read_shard, write_shard

SAMPLER = """
import sys, time
from lrm_align.traces import ShardWriter, Trace
with ShardWriter(sys.argv[1], "recipe", flush_every=2) as writer:
    print("ready", flush=True)
    for prompt in range(30):
        for sample in range(2):
            if (f"p{prompt}", sample) not in writer.done:
                writer.add(Trace([prompt], [sample], [1], [-1.0], prompt_id=f"p{prompt}", sample=sample))
                time.sleep(0.002)
"""


def test_killed_at_any_moment_and_started_again_the_set_is_the_same(tmp_path):
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    for wait in (0.01, 0.05, None):
        process = subprocess.Popen(
            [sys.executable, "-c", SAMPLER, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if wait is not None:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == 0
    keys = [trace.key for shard in list_shards(tmp_path) for trace in read_shard(shard)]
    assert sorted(keys) == sorted((f"p{prompt}", sample) for prompt in range(30) for sample in range(2))


@pytest.mark.parametrize("stage", ["data", "manifest"])
def test_a_kill_between_data_and_manifest_loses_only_that_shard(tmp_path, make_trace, stage):
    with ShardWriter(tmp_path, "recipe", flush_every=2) as writer:
        for seed in range(4):
            writer.add(make_trace(seed))
    manifest = tmp_path / writer.shards[1].manifest.file_name
    if stage == "data":
        manifest.unlink()
        writer.shards[1].path.write_bytes(b"half")
    else:
        manifest.write_text(manifest.read_text()[:40])
    again = ShardWriter(tmp_path, "recipe", flush_every=3)
    assert again.done == {("p0", 0), ("p1", 0)}
    for seed in (2, 3):
        again.add(make_trace(seed))
    again.flush()
    assert sorted(t.key for s in list_shards(tmp_path) for t in read_shard(s)) == [(f"p{i}", 0) for i in range(4)]


def test_what_is_finished_survives_an_error(tmp_path, make_trace):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "recipe") as writer:
        writer.add(make_trace(0))
        raise RuntimeError("the engine broke")
    assert ShardWriter(tmp_path, "recipe").done == {("p0", 0)}


def test_twice_or_of_another_recipe(tmp_path, make_trace):
    with ShardWriter(tmp_path, "recipe") as writer:
        writer.add(make_trace(0))
        with pytest.raises(ValueError, match="finished before"):
            writer.add(make_trace(0))
    with pytest.raises(UserError, match="another recipe"):
        ShardWriter(tmp_path, "other recipe")
    write_shard(tmp_path, "copy", [make_trace(0)], "recipe")
    with pytest.raises(UserError, match="second time"):
        ShardWriter(tmp_path, "recipe")


def test_two_writers_share_a_directory_by_prefix(tmp_path, make_trace):
    writers = [ShardWriter(tmp_path, "recipe", 1, f"host{host}") for host in range(2)]
    for seed in range(4):
        writers[seed % 2].add(make_trace(seed))
    names = [shard.manifest.name for shard in list_shards(tmp_path)]
    assert names == ["host0-00000", "host0-00001", "host1-00000", "host1-00001"]
