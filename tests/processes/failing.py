"""Processes of which one ends while the other waits for it: `python -m tests.processes.failing HOW WHO`."""

import os
import signal
import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from lrm_align import processes
from lrm_align.errors import UserError, command


@processes.together
@command
def main(how: str, who: int) -> None:
    """The process `who` fails; the others wait where they cannot be told by an exception."""
    processes.barrier("the beginning")
    if how == "data":
        _sum_up(who)
    if jax.process_index() != who:
        if how == "lost":
            processes.barrier("the end that one never comes to")
        highest = processes.Highest()
        highest.of(1)
        highest.of(1)  # waits for the devices of the other
        time.sleep(60)
    if how == "mistake":
        raise UserError("the disk is full")
    if how == "fault":
        raise ZeroDivisionError("of ours")
    if how == "signal":
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "lost":
        os.kill(os.getpid(), signal.SIGKILL)


def _sum_up(who: int) -> None:
    """As training does: the other's sums over all devices fail when this one leaves."""
    for step in range(100):
        if step == 3 and jax.process_index() == who:
            raise UserError("the data is gone")
        multihost_utils.process_allgather(np.float32(step))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
