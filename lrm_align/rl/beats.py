"""Signs of life of samplers: a small file each that is overwritten now and then, and changes while its writer lives.

They are a courtesy: no group depends on them. The trainer reads them to name what it waits for, and to ask others for
the tickets of a sampler that is silent.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import CannotWriteError

SECONDS = 5.0  # between two signs
PATIENCE = 60.0  # seconds without a sign until a sampler counts as silent
_ENDED = "ended"


class Beat:
    """Writes the sign of one sampler from a thread of its own, until it is left.

    Args:
      directory: of the signs.
      index, count: which sampler of how many.
      seconds: between two signs.
    """

    def __init__(self, directory: epath.Path, index: int, count: int, seconds: float = SECONDS):
        self._path, self._seconds = directory / f"{index}.json", seconds
        self._fields: dict[str, Any] = {
            "sampler": f"{index}/{count}",
            "process": f"{os.getpid()} on {socket.gethostname()}",
            "state": "waiting",
        }
        self._sign = 0
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)

    def __enter__(self) -> "Beat":
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.tell(state=_ENDED, reason=" ".join(str(error or "").split())[:300])
        self._write()

    def tell(self, **fields: Any) -> None:
        """What the next sign says beside that its writer lives."""
        self._fields = {**self._fields, **fields}

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._write()

    def _write(self) -> None:
        with self._writing:
            self._sign += 1
            fields = {**self._fields, "sign": self._sign, "at": time.time()}
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                atomic_files.write_text(self._path, json.dumps(fields))
            except (OSError, CannotWriteError):
                return  # a full disk ends the sampler where it writes groups, with a reason


class Lives:
    """What the trainer knows of its samplers' lives. Clocks of different machines are never compared.

    Args:
      directory: of the signs.
      count: samplers.
      patience: seconds without a new sign until a sampler counts as silent.
      clock: seconds.
    """

    def __init__(
        self, directory: epath.Path, count: int, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic
    ):
        self._directory, self._count, self._patience, self._clock = directory, count, patience, clock
        self._signs: list[dict[str, Any]] = [{} for _ in range(count)]
        self._changed = [clock()] * count
        self._looked = -1e9

    def look(self) -> None:
        """Reads the signs, at most once in a second."""
        now = self._clock()
        if now - self._looked < 1.0:
            return
        self._looked = now
        for index in range(self._count):
            sign = _read(self._directory / f"{index}.json")
            if sign and sign != self._signs[index]:
                self._signs[index], self._changed[index] = sign, now

    def living(self) -> set[int]:
        """The samplers that showed life lately, or were never given the time to; all of them if none did."""
        self.look()
        now = self._clock()
        found = {
            index
            for index, sign in enumerate(self._signs)
            if sign.get("state") != _ENDED and now - self._changed[index] <= self._patience
        }
        return found or set(range(self._count))

    def describe(self) -> str:
        """One clause a sampler."""
        self.look()
        if not any(self._signs):
            return "no sampler has shown a sign of life: start python -m lrm_align.sample --follow"
        return "; ".join(self._clause(index) for index in range(self._count))

    def _clause(self, index: int) -> str:
        sign = self._signs[index]
        if not sign:
            return f"sampler {index}/{self._count} never started"
        if sign.get("state") == _ENDED:
            return f"sampler {index}/{self._count} ended" + (f" ({sign['reason']})" if sign.get("reason") else "")
        ago = self._clock() - self._changed[index]
        return f"sampler {index}/{self._count} is {sign.get('state')}, last sign {ago:.0f} s ago"


def _read(path: epath.Path) -> dict[str, Any]:
    """A sign; {} where there is none, or one that is just being written."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
