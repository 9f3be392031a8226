"""Ctrl-C and SIGTERM: raised where nothing is cut in two, noted elsewhere, told in one line."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from lrm_align import stopping
from lrm_align.errors import during

SIGNALS = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}

COMMAND = """
import os, signal, sys, time
from lrm_align import stopping
from lrm_align.errors import command, during

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

@command
def main():
    with during("train", "run/train-1"):
        {body}
    print("went on", flush=True)

main()
"""
AT_ONCE = "print('ready', flush=True); time.sleep(30)"
AT_A_STEP = """
        with stopping.deferred("the end of this step") as asked:
            print("ready", flush=True)
            while True:
                time.sleep(0.1)
                if asked():
                    raise stopping.Stopped(asked(), "step 1 is saved")
"""
NEVER = """
        with stopping.deferred("a step without end"):
            print("ready", flush=True)
            time.sleep(0.2)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline: time.sleep(0.1)
"""


def send(number):
    os.kill(os.getpid(), number)


@SIGNALS
def test_it_is_raised_between_two_operations_and_handlers_come_back(number, status):
    before = signal.getsignal(number)
    done = []
    with pytest.raises(stopping.Stopped) as stopped, stopping.listening(), during("sample", "run/sample-1"):
        try:
            send(number)
        finally:
            done.append("finally")
    assert stopped.value.code == status and done and signal.getsignal(number) is before
    assert str(stopped.value) == (
        f"stopped by {NAMES[number]} in stage sample (run/sample-1): what is finished is on disk; the same command "
        "goes on"
    )


@SIGNALS
def test_what_is_deferred_is_not_cut_in_two(number, status):
    done = []
    with pytest.raises(stopping.Stopped) as stopped, stopping.listening():
        with stopping.deferred():
            with stopping.deferred():
                send(number)
                done.append("inner")
            done.append("outer")
        done.append("never")
    assert done == ["inner", "outer"] and stopped.value.code == status


def test_who_asks_says_what_is_kept_and_nothing_raises_again():
    with pytest.raises(stopping.Stopped, match="step 3 is saved"), stopping.deferred() as asked:
        assert asked() is None
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        try:
            if asked():
                raise stopping.Stopped(asked(), "step 3 is saved")
        finally:
            with stopping.deferred():
                pass


def test_one_that_somebody_swallows_is_raised_where_it_is_looked_for():
    stopping.check()
    with pytest.raises(stopping.Stopped), stopping.listening():
        with contextlib.suppress(BaseException):
            send(signal.SIGTERM)
        with stopping.deferred() as asked:
            stopping.check()
            assert asked() == signal.SIGTERM
        stopping.check()
    stopping.check()


def test_another_error_is_not_hidden():
    with pytest.raises(KeyError), stopping.deferred():
        send(signal.SIGTERM)
        raise KeyError
    with stopping.deferred() as asked:  # the next one starts anew
        assert asked() is None


def test_other_threads_and_ignored_signals_are_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    try:
        with stopping.listening():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    found = []

    def work():
        with stopping.listening(), stopping.deferred() as asked:
            found.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None] and signal.getsignal(signal.SIGINT) is before


def start(body):
    """A process that is at its work."""
    code = COMMAND.replace("{body}", body)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@SIGNALS
@pytest.mark.parametrize("body", [AT_ONCE, AT_A_STEP], ids=["at once", "at a step"])
def test_a_command_says_one_line(number, status, body):
    process = start(body)
    process.send_signal(number)
    said, told = process.communicate(timeout=20)
    kept = "step 1 is saved" if body == AT_A_STEP else "what is finished is on disk; the same command goes on"
    lines = [line for line in told.splitlines() if line]
    waits = "Ctrl-C: waits for the end of this step; once more aborts at once"
    if (number, body) == (signal.SIGINT, AT_A_STEP):
        assert lines.pop(0) == waits
    assert lines == [f"stopped by {NAMES[number]} in stage train (run/train-1): {kept}"]
    assert process.returncode == status and not said


def test_a_second_ctrl_c_aborts_at_once():
    process = start(NEVER)
    process.send_signal(signal.SIGINT)
    assert "once more aborts at once" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT  # which a shell shows as 130
