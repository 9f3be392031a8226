"""Processes that run together: started from the environment, agreed on everything, ended together."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from lrm_align import processes, report, serve
from lrm_align.errors import UserError
from lrm_align.training import make_mesh, sharding
from tests.end_to_end import tiny
from tests.processes import launch, readers, trainer
from tests.tokenizer_families import small

ADDRESS, COUNT, INDEX = launch.NAMES


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({ADDRESS: "a:1"}, f"sets {ADDRESS} but not {COUNT} and {INDEX}; several processes need all"),
        ({COUNT: "2", INDEX: "0"}, f"sets {COUNT} and {INDEX} but not {ADDRESS}"),
        ({ADDRESS: "a", COUNT: "2", INDEX: "0"}, f"{ADDRESS} is 'a'; HOST:PORT"),
        ({ADDRESS: "a:b", COUNT: "2", INDEX: "0"}, "HOST:PORT"),
        ({ADDRESS: "a:70000", COUNT: "2", INDEX: "0"}, "HOST:PORT"),
        ({ADDRESS: "a:1", COUNT: "two", INDEX: "0"}, f"{COUNT} is 'two'; it must be at least 1"),
        ({ADDRESS: "a:1", COUNT: "0", INDEX: "0"}, f"{COUNT} is '0'; it must be at least 1"),
        ({ADDRESS: "a:1", COUNT: "2", INDEX: "2"}, f"{INDEX} is '2'; of 2 processes it must be 0 to 1"),
        ({ADDRESS: "a:1", COUNT: "2", INDEX: "-1"}, f"{INDEX} is '-1'"),
    ],
)
def test_an_environment_that_makes_no_sense(environ, message):
    with pytest.raises(UserError, match=message):
        processes.start(environ)


@pytest.mark.parametrize("environ", [{}, {ADDRESS: ""}, {ADDRESS: "a:1", COUNT: "1", INDEX: "0"}])
def test_one_process_is_alone(environ):
    processes.start(environ)
    processes.one("a command", environ)
    assert processes.count() == 1 and processes.primary() and not jax.distributed.is_initialized()
    assert processes.shared("a value", lambda: (1, 2)) == (1, 2) and processes.everyone("all", True)
    assert processes.Highest().of(15) == 15


@pytest.mark.parametrize("command", [serve.main, report.main])
def test_what_one_process_does_refuses_several(command, monkeypatch, capsys):
    for name, value in zip(launch.NAMES, ("a:1", "2", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        command(["command", "--config=none.py"])
    assert stop.value.code == 2
    assert "runs in one process, but JAX_NUM_PROCESSES is 2" in capsys.readouterr().err


def test_a_half_set_environment_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv(COUNT, "2")
    with pytest.raises(SystemExit) as stop:
        processes.together(lambda: None)()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: the environment sets") and said.count("\n") == 1


def test_two_processes_train_as_one(tmp_path):
    """2 × 4 devices; the last process has no token to train on in any step."""
    launch.run(["-m", "tests.processes.trainer", str(tmp_path)], tmp_path / "logs", seconds=240)
    together = np.load(tmp_path / "found.npz")
    alone = trainer.trained(tmp_path / "alone", make_mesh(trainer.SIZES))
    assert together.files == list(alone)
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_read_as_one(tmp_path):
    """Guards, divergences and log-probabilities, of a model whose arrays lie with both."""
    tiny.reasoner(tmp_path / "model", small("qwen3"))
    launch.run(["-m", "tests.processes.readers", str(tmp_path)], tmp_path / "logs")
    together, alone = np.load(tmp_path / "found.npz"), readers.read(tmp_path / "model", make_mesh(trainer.SIZES))
    assert together.files == list(alone)
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("how", "who", "status", "said"),
    [
        ("data", 1, 2, "error: process 1 ended: the data is gone"),
        pytest.param("data", 0, 2, "error: process 0 ended: the data is gone", marks=pytest.mark.slow),
        pytest.param("mistake", 1, 2, "error: process 1 ended: the disk is full", marks=pytest.mark.slow),
        pytest.param("mistake", 0, 2, "error: process 0 ended: the disk is full", marks=pytest.mark.slow),
        pytest.param("fault", 0, 1, "error: process 0 ended: ZeroDivisionError: of ours", marks=pytest.mark.slow),
        pytest.param("fault", 1, 1, "error: process 1 ended: ZeroDivisionError: of ours", marks=pytest.mark.slow),
    ],
)
def test_when_one_fails_all_end(how, who, status, said, tmp_path):
    ended = launch.run(
        ["-m", "tests.processes.failing", how, str(who)], tmp_path, devices=1, seconds=120, status=status
    )
    assert said in ended[1 - who].said
    assert "Traceback" not in ended[1 - who].said
    own = ended[who].said
    assert ("Traceback" in own) == (how == "fault") and own.count("error: the") == (how != "fault")


@pytest.mark.slow
@pytest.mark.parametrize("index", ["0", "1"])
def test_a_process_whose_others_never_come(index, tmp_path):
    program = "from lrm_align import processes; processes.START_SECONDS = 3; processes.start()"
    environ = launch.environment(1) | dict(zip(launch.NAMES, (f"127.0.0.1:{launch.free_port()}", "2", index)))
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: process {index} of 2 at .* waited 3 s for the others; start all of them\n", done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_signal_to_one_ends_all(who, tmp_path):
    ended = launch.run(["-m", "tests.processes.failing", "signal", str(who)], tmp_path, devices=1, status=None)
    assert ended[who].status == 143 and ended[1 - who].status in (143, -15)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_one_that_is_killed_is_missed(who, tmp_path):
    """By JAX's heartbeat, within two minutes."""
    ended = launch.run(["-m", "tests.processes.failing", "lost", str(who)], tmp_path, devices=1, status=None)
    assert ended[who].status == -9 and ended[1 - who].status not in (0, -9), ended


@pytest.mark.parametrize(
    ("sizes", "owners", "shares"),
    [
        ({"data": 8}, [0, 0, 0, 0, 1, 1, 1, 1], [(0, 2), (1, 2)]),
        ({"data": 2, "tensor": 4}, [0, 0, 0, 0, 1, 1, 1, 1], [(0, 2), (1, 2)]),
        ({"fsdp": 2, "tensor": 4}, [0, 0, 1, 1, 2, 2, 3, 3], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ({"tensor": 8}, [0, 0, 0, 0, 1, 1, 1, 1], [(0, 1), (0, 1)]),
        ({"data": 4, "fsdp": 2}, [0, 1, 0, 1, 0, 1, 0, 1], [(0, 1), (0, 1)]),  # not consecutive: each makes all rows
        ({"data": 8}, [1, 1, 1, 1, 0, 0, 0, 0], [(1, 2), (0, 2)]),
    ],
)
def test_the_rows_of_a_process_are_those_of_its_devices(sizes, owners, shares, monkeypatch):
    mesh = make_mesh(sizes)
    owner = dict(zip(mesh.devices.flat, owners))
    split = sharding.batch_sharding(mesh).devices_indices_map

    class Device:
        def __init__(self, device):
            self.process_index = owner[device]

    class Split:
        def devices_indices_map(self, shape):
            return {Device(device): index for device, index in split(shape).items()}

    monkeypatch.setattr(sharding, "batch_sharding", lambda mesh, rules: Split())
    for index, share in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        assert tuple(sharding.share(mesh)) == share
