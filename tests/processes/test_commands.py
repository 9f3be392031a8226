"""Whole commands in two processes of four devices, in one of eight, and in one of one: they find the same."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest

from lrm_align.models import safetensors_io
from lrm_align.traces import list_shards, read_shard
from tests.end_to_end import test_dpo, tiny
from tests.processes import launch
from tests.tokenizer_families import small

SMALL = {
    "mesh.data": 2,
    "mesh.fsdp": 2,
    "mesh.tensor": 2,
    "lora.rank": 4,
    "prompts.args.harmful": 24,
    "prompts.args.benign": 20,
    "prompts.args.arithmetic": 12,
    "prompts.args.fact": 8,
    "sample.slots": 32,
    "sample.shard_traces": 24,
    "train.epochs": 2,
    "train.checkpoint_every": 4,
    "train.log_every": 1,
    "train.chunk": 64,
    "evaluate.args.attack": 8,
    "evaluate.args.wrapped": 8,
    "evaluate.args.lookalike": 8,
    "evaluate.args.arithmetic": 8,
    "evaluate.args.fact": 8,
    "export.dtype": "float32",
}
ONE = {"mesh.data": 1, "mesh.fsdp": 1, "mesh.tensor": 1}


def command(workdir, module="main", config="quickstart", **more):
    """Python's arguments."""
    values = {**SMALL, **more} if config == "quickstart" else more
    path = launch.ROOT / "configs" / f"{config}.py"
    overrides = [f"--config.{key}={value}" for key, value in values.items()]
    return ["-m", f"lrm_align.{module}", f"--config={path}", f"--workdir={workdir}", *overrides]


def traces(workdir, stage):
    """{key: (ids, log-probabilities)} of a stage's shards."""
    (directory,) = workdir.glob(f"{stage}-*")
    shards = [shard for place in [directory, *directory.glob("*/")] for shard in list_shards(place)]
    return {
        trace.key: (trace.prompt_ids.tolist() + trace.completion_ids.tolist(), trace.sampler_logp)
        for shard in shards
        for trace in read_shard(shard)
    }


def ids(workdir, stage):
    return {key: found for key, (found, _) in traces(workdir, stage).items()}


def order(workdir):
    """The training traces in the order of their shards, which numbers them for the plan."""
    (directory,) = workdir.glob("filter-*/sft")
    return [key for shard in list_shards(directory) for key in shard.manifest.keys]


def weights(workdir, kind="model"):
    (directory,) = workdir.glob(f"export-*/{kind}")
    stored = safetensors_io.index(sorted(directory.glob("*.safetensors")))
    return {name: np.asarray(tensor.open(), np.float32) for name, tensor in stored.items()}


def losses(workdir):
    (directory,) = workdir.glob("train-*")
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def report(workdir):
    return json.loads((workdir / "report.json").read_text())


def assert_equal_runs(a, b, atol=2e-5):
    """Traces and order are the same; losses, weights and rates are to rounding."""
    assert ids(a, "sample") == ids(b, "sample")
    assert order(a) == order(b)
    assert ids(a, "filter") == ids(b, "filter")
    assert losses(a).keys() == losses(b).keys()
    np.testing.assert_allclose(list(losses(a).values()), list(losses(b).values()), rtol=1e-4)
    for kind in ("model", "adapters"):
        ours, theirs = weights(a, kind), weights(b, kind)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], atol=atol, rtol=1e-3, err_msg=name)
    for part in ("before", "after", "traces"):
        assert report(a)[part] == report(b)[part], part


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def together(tmp_path_factory, cache):
    """A run of two processes."""
    root = tmp_path_factory.mktemp("together")
    ended = launch.run(command(root / "run"), root, seconds=900, cache=cache)
    return root / "run", ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    """The same run in one process of eight devices."""
    root = tmp_path_factory.mktemp("alone")
    launch.run(command(root / "run"), root, count=1, devices=8, seconds=900, cache=cache)
    return root / "run"


@pytest.mark.slow
def test_two_processes_are_one(together, alone):
    workdir, (first, second) = together
    assert_equal_runs(workdir, alone)
    assert "everything is in" in first.said and "ThinkSafe" not in second.said, "the first alone talks"
    assert json.loads((workdir / "run.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_one_device_is_eight(together, tmp_path, cache):
    launch.run(command(tmp_path / "run", **ONE), tmp_path, count=1, devices=1, seconds=900, cache=cache)
    assert_equal_runs(together[0], tmp_path / "run", atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_signal_to_one_stops_all_at_a_step_and_one_process_goes_on(who, together, alone, tmp_path, cache):
    """SIGTERM reaches one of two processes in training; one process of eight devices ends the run."""
    (tmp_path / "run").mkdir()
    longer = {"train.epochs": 8, "train.checkpoint_every": 1000}
    for name in ("before", "sample", "filter"):
        (stage,) = together[0].glob(f"{name}-*")
        shutil.copytree(stage, tmp_path / "run" / stage.name)
        (stage,) = alone.glob(f"{name}-*")
        shutil.copytree(stage, tmp_path / "reference" / stage.name)

    def terminate(started):
        log = tmp_path / "logs" / "process-0.log"
        end = time.monotonic() + 300
        while "step 1/" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.05)
        started[who].send_signal(signal.SIGTERM)

    first, _ = launch.run(
        command(tmp_path / "run", **longer),
        tmp_path / "logs",
        seconds=600,
        status=143,
        during=terminate,
        cache=cache,
    )
    stopped = re.search(
        r"stopped by SIGTERM in stage train .*: step (\d+) is saved; the same command goes on", first.said
    )
    assert stopped, first.said
    (one,) = launch.run(
        command(tmp_path / "run", **longer), tmp_path / "more", count=1, devices=8, seconds=600, cache=cache
    )
    assert f"resumed after step {stopped[1]} of" in one.said
    launch.run(
        command(tmp_path / "reference", **longer), tmp_path / "most", count=1, devices=8, seconds=600, cache=cache
    )
    assert_equal_runs(tmp_path / "run", tmp_path / "reference", atol=1e-4)


@pytest.mark.slow
def test_an_evaluation_counts_the_same(tmp_path, cache):
    """Two processes, of which one is killed in the middle; given again, the command goes on."""
    sizes = {"plain": 24, "wrapped": 16, "lookalike": 24, "arithmetic": 16}
    values = {f"sets.{name}.args.count": count for name, count in sizes.items()}
    values |= {"mesh.fsdp": 8, "sample.slots": 16, "sample.shard_traces": 8}

    def asked(workdir):
        return command(workdir, "evaluate", "evaluate_lab", **values)

    def kill(started):
        end = time.monotonic() + 300
        while not list((tmp_path / "a").glob("plain-*/*.manifest.json")) and time.monotonic() < end:
            time.sleep(0.02)
        for process in started:
            process.kill()

    launch.run(asked(tmp_path / "a"), tmp_path / "killed", seconds=600, status=-9, during=kill, cache=cache)
    launch.run(asked(tmp_path / "a"), tmp_path / "two", seconds=600, cache=cache)
    launch.run(asked(tmp_path / "b"), tmp_path / "one", count=1, devices=8, seconds=600, cache=cache)
    a, b = (json.loads((tmp_path / name / "evaluation.json").read_text())["evaluation"] for name in "ab")
    assert a["results"] == b["results"] and a["averages"] == b["averages"]


@pytest.mark.slow
def test_the_sampler_alone(together, tmp_path, cache):
    """Its traces are those of a whole run."""
    launch.run(command(tmp_path / "run", "sample"), tmp_path, seconds=600, cache=cache)
    assert ids(tmp_path / "run", "sample") == ids(together[0], "sample")


@pytest.mark.slow
def test_mistakes_end_in_one_line(tmp_path):
    """A mesh that leaves devices idle, other configs in two processes, and a workdir that they do not share."""
    few = command(tmp_path / "few", **ONE)
    for one in launch.run(few, tmp_path / "logs", status=2):
        assert re.fullmatch(r"error: .*mesh: 1 of 8 devices are used, but with several hosts all must be\n", one.said)
    ended = launch.run(command(tmp_path / "own", "sample"), tmp_path / "logs", status=2, own={1: ["--config.seed=9"]})
    assert "process 1 has other stages than the first process" in ended[1].said
    ended = launch.run(command(tmp_path / "own"), tmp_path / "logs", status=2, own={1: [f"--workdir={tmp_path}/b"]})
    assert "is not the same place for all 2 processes" in ended[1].said


@pytest.mark.slow
def test_preferences_with_a_stored_reference(tmp_path, cache):
    """Pairs, log-probabilities of the reference computed and stored by both, training, export."""
    model = tiny.reasoner(tmp_path / "model", small("qwen3"))
    values = {
        **test_dpo.SMALL,
        **{f"mesh.{axis}": 2 for axis in ("data", "fsdp", "tensor")},
        "model.path": model,
        "pairs.args.path": test_dpo.pairs_file(tmp_path / "pairs.jsonl"),
        "reference.logp": "stored",
        "train.optimizer.learning_rate": 1e-3,  # Adam makes much of rounding where a gradient is all but zero
        "export.dtype": "float32",
    }
    for name, sizes in (("two", {}), ("one", {"count": 1, "devices": 8})):
        launch.run(command(tmp_path / name, config="dpo_tpu", **values), tmp_path / "logs" / name, cache=cache, **sizes)
    two, one = tmp_path / "two", tmp_path / "one"
    np.testing.assert_allclose(list(losses(two).values()), list(losses(one).values()), rtol=1e-4)
    ours, theirs = weights(two), weights(one)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4, err_msg=name)
