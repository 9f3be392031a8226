"""Generation ends with the same traces, however often it is killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.sampling import ForcedPrefix, Request, SamplingParams, generate
from lrm_align.traces import list_shards, read_shard
from tests.sampling.engines import engine, requests

CHILD = """
import os, pathlib, sys, time
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
jax.config.update("jax_num_cpu_devices", 8)
from lrm_align.sampling import generate
from tests.sampling.engines import engine, requests
slow = engine()
run = slow.run
def slowly(*arguments):
    for completion in run(*arguments):
        time.sleep(0.05)
        yield completion
slow.run = slowly
generate(slow, requests(20, samples=2), sys.argv[1], recipe_hash="r", flush_every=3)
"""


def _traces(directory):
    return {trace.key: trace for shard in list_shards(directory) for trace in read_shard(shard)}


def test_killed_and_started_again(tmp_path):
    generate(engine(), requests(20, samples=2), tmp_path / "whole", recipe_hash="r", quiet=True)
    whole = _traces(tmp_path / "whole")
    root = pathlib.Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "killed")], cwd=root, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    while len(list_shards(tmp_path / "killed")) < 2:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    survived = _traces(tmp_path / "killed")
    assert 6 <= len(survived) < 40
    generate(engine(), requests(20, samples=2), tmp_path / "killed", recipe_hash="r", quiet=True)
    resumed = _traces(tmp_path / "killed")
    assert resumed.keys() == whole.keys() and len(whole) == 40
    for key, trace in whole.items():
        assert trace == resumed[key], key


def test_traces_carry_what_was_asked(tmp_path):
    request = Request(
        "p", [7, 8, 9], 2, SamplingParams(0.6, max_new_tokens=5), ForcedPrefix((30,)), "group", ("harmful",), {"x": 1}
    )
    generate(engine(seed=4), [request], tmp_path, recipe_hash="r", policy=2, quiet=True)
    trace = _traces(tmp_path)["p", 1]
    assert trace.prompt_ids.tolist() == [7, 8, 9] and trace.completion_ids[0] == 30
    assert (trace.group_id, trace.tags, trace.meta, trace.policy) == ("group", ("harmful",), {"x": 1}, 2)
    assert trace.sampling["temperature"] == 0.6 and trace.sampling["intervention"] == "ForcedPrefix"
    assert trace.sampling["seed"] == 4 and trace.sampling["stop_ids"] == [3, 5]
    assert np.isnan(trace.sampler_logp[0]) and np.isfinite(trace.sampler_logp[1:]).all()


def test_nothing_is_drawn_twice(tmp_path, capsys):
    generate(engine(), requests(2), tmp_path, recipe_hash="r")
    assert "2 of 2 traces" in capsys.readouterr().err
    before = _traces(tmp_path)
    finished = engine()
    finished.run = None
    generate(finished, requests(2), tmp_path, recipe_hash="r")
    generate(engine(), requests(4), tmp_path, recipe_hash="r")
    after = _traces(tmp_path)
    assert len(after) == 4 and all(after[key] == trace for key, trace in before.items())
    with pytest.raises(UserError, match="another recipe"):
        generate(engine(), requests(2), tmp_path, recipe_hash="q")
