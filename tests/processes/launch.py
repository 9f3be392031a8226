"""Starts the processes of a run for real: a free port, a time-out, and the words of all where something is wrong."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Ended(NamedTuple):
    """How a process ended, and all that it said."""

    status: int
    said: str


def free_port() -> int:
    """A port that nobody listens at now."""
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def environment(devices: int, cache: pathlib.Path | None = None, **more: str) -> dict[str, str]:
    """Of a process with so many CPU devices that compiles quickly."""
    found = {name: value for name, value in os.environ.items() if name not in NAMES}
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    found |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    found["PYTHONUNBUFFERED"] = "1"
    if cache is not None:
        found |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    return found | more


def run(
    arguments: Sequence[str],
    logs: pathlib.Path,
    *,
    count: int = 2,
    devices: int = 4,
    seconds: float = 300.0,
    status: int | None = 0,
    during: Callable[[list[subprocess.Popen]], None] | None = None,
    own: Mapping[int, Sequence[str]] = {},
    cache: pathlib.Path | None = None,
) -> list[Ended]:
    """Runs `python ARGUMENTS` in several processes that know of each other, or in one that is alone.

    Args:
      arguments: of Python.
      logs: directory for what they say.
      count: of processes; 1 sets none of JAX's variables.
      devices: of each.
      seconds: until all must have ended.
      status: that all must end with; None for any.
      during: called once all have been started.
      own: further arguments of some of them.
      cache: of compiled programs.
    """
    logs.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    files = [logs / f"process-{index}.log" for index in range(count)]
    started: list[subprocess.Popen] = []
    try:
        for index, file in enumerate(files):
            values = (address, str(count), str(index))
            environ = environment(devices, cache, **(dict(zip(NAMES, values)) if count > 1 else {}))
            command = [sys.executable, *arguments, *own.get(index, ())]
            with file.open("w") as log:
                started.append(subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT))
        if during is not None:
            during(started)
        end = time.monotonic() + seconds
        late = False
        for process in started:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                late = True
                process.send_signal(signal.SIGABRT)  # says where it was
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    ended = [Ended(process.returncode, file.read_text()) for process, file in zip(started, files)]
    said = "\n".join(f"--- process {i} ended with {one.status}:\n{one.said[-6000:]}" for i, one in enumerate(ended))
    assert not late, f"not at an end after {seconds} s\n{said}"
    assert status is None or all(one.status == status for one in ended), f"wanted {status}\n{said}"
    return ended
