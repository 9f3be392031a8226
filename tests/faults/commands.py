"""Real commands on the lab's model as processes of their own, small enough to be stopped and started often."""

import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
CLOCKS = ("step_s", "tokens_per_s", "trained_tokens_per_s", "slot_tokens_per_s", "completions_per_s", "time/")
SFT = {
    "prompts.args": {"harmful": 24, "benign": 12, "arithmetic": 0, "fact": 0},
    "evaluate.args": dict.fromkeys(("attack", "wrapped", "lookalike", "arithmetic", "fact"), 8),
    "sample.slots": 16,
    "sample.shard_traces": 8,
    "train.epochs": 3,
    "train.batch_traces": 4,
    "train.row_length": 144,
    "train.log_every": 3,
    "train.checkpoint_every": 4,
}

SMALL = {"prompts.args": SFT["prompts.args"], "evaluate.args": SFT["evaluate.args"], "sample.slots": 16}
RL = {
    **SMALL, "rl.steps": 9, "rl.groups": 4, "rl.samples": 4, "rl.checkpoint_every": 2, "rl.log_every": 1,
    "rl.sampling.slots": 16,
}  # fmt: skip
EVALUATION = {"sample.slots": 32, "sample.shard_traces": 64}


class Command:
    """A command that runs, and what it has said so far.

    Args:
      module: "main", "sample", …
      config: the file's name in configs/.
      workdir: of the run.
      values: {name: value} of the config.
      flags: more of the command line.
    """

    def __init__(self, module: str, config: str, workdir, values, *flags: str):
        named = [f"--config.{name}={value}" for name, value in values.items()]
        arguments = [f"--config={ROOT / 'configs' / config}", f"--workdir={workdir}", *named, *flags]
        # What compiles once compiles never again: these tests start the same programs many times.
        cache = pathlib.Path(tempfile.gettempdir(), f"lrm_align-tests-{os.getuid()}")
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_COMPILATION_CACHE_DIR": str(cache),
        }  # fmt: skip
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:];"
        code += f"from lrm_align.{module} import main; main(sys.argv)"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, module, *arguments], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._read, args=(stream, into))
            for stream, into in ((self._process.stdout, self._heard.put), (self._process.stderr, self._tell))
        ]
        self.said: list[str] = []
        self.told: list[str] = []
        for thread in self._threads:
            thread.start()

    def _read(self, stream, into) -> None:
        for line in stream:
            into(line.rstrip("\n"))
        if stream is self._process.stdout:
            self._heard.put(None)

    def _tell(self, line: str) -> None:
        # A progress line is no news: 'sampling: 8 of 8 traces, …'.
        if line and not re.search(r": [\d,]+ of [\d,]+ ", line):
            self.told.append(line)

    def until(self, beginning: str, seconds: float = 300.0) -> str:
        """Waits for a line of standard output, and gives it."""
        end = time.monotonic() + seconds
        while (line := self._heard.get(timeout=max(0.1, end - time.monotonic()))) is not None:
            self.said.append(line)
            if line.strip().startswith(beginning):
                return line
        raise AssertionError(f"ended before it said {beginning!r}: {self.said[-3:]} {self.told[-5:]}")

    def send(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def end(self, seconds: float = 300.0) -> int:
        """Waits for its end; its status."""
        status = self._process.wait(timeout=seconds)
        for thread in self._threads:
            thread.join()
        while (line := self._heard.get()) is not None:
            self.said.append(line)
        return status

    def kill(self) -> None:
        """Ends it as nothing else can be ended."""
        self._process.send_signal(signal.SIGKILL)
        self.end()


def rows(workdir: pathlib.Path, stage: str):
    """The metrics of a stage without what clocks say."""
    (file,) = workdir.glob(f"{stage}-*/metrics.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKS)} for row in found]


def whole(workdir: pathlib.Path):
    """{name: contents} of what a finished run leaves that nothing disturbed may change: answers, verdicts, exports."""
    names = (
        "*/*.answers.jsonl", "after-*/*.verdicts.jsonl", "*-verdicts-*/verdicts-*.jsonl", "export-*/*/*.safetensors",
    )  # fmt: skip
    return {
        str(path.relative_to(workdir)): path.read_bytes() for pattern in names for path in sorted(workdir.glob(pattern))
    }
