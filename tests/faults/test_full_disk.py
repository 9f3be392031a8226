"""A disk that takes no more, met in the middle of training: the run ends at the step with one line, and never hangs."""

import errno
import io
import logging
import os
import re
import signal

import jax
import pytest
from etils import epath

from lrm_align import objectives, stopping
from lrm_align.errors import CannotWriteError, command
from lrm_align.training import OptimizerSettings, TrainSettings, lora, metrics, train
from lrm_align.training.board import Board
from lrm_align.training.checkpoint import Checkpoints
from lrm_align.training.quiet import quiet
from tests.training import tiny

STEPS = 8


class Counting(tiny.Loader):
    """Knows how far a run came."""

    done = 0

    def steps(self, start=0):
        for self.done in range(start, STEPS):
            yield self.batch(self.done)


def run(workdir, loader):
    return train(
        tiny.MODEL, tiny.MODEL.init(jax.random.key(1)), objectives.sft(), loader,
        tuning=lora(2, 4.0), optimizer=OptimizerSettings(learning_rate=1e-2), workdir=workdir,
        settings=TrainSettings(checkpoint_every=3, log_every=1), log=lambda line: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("RESOURCE_EXHAUSTED: … [os_error_code='28']"), r"No space left on device; free some space there"),
        (OSError(errno.EROFS, "Read-only file system"), r"Read-only file system; make it writable"),
        (ValueError("UNAVAILABLE: 503"), r"ValueError: UNAVAILABLE: 503; the one before it is good, and the same"),
    ],
)
def test_a_checkpoint_that_fails_ends_the_run_at_the_step(tmp_path, monkeypatch, raised, told):
    import orbax.checkpoint as ocp

    wait, save = ocp.CheckpointManager.wait_until_finished, ocp.CheckpointManager.save
    under_way = []

    def saves(self, step, **options):
        save(self, step, **options)
        under_way.append(step)

    def fails(self):
        wait(self)
        if under_way:
            under_way.clear()
            raise raised

    monkeypatch.setattr(ocp.CheckpointManager, "save", saves)
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", fails)
    monkeypatch.setattr(ocp.CheckpointManager, "is_saving_in_progress", lambda self: False)
    loader = Counting(STEPS)
    path = re.escape(str(tmp_path / "checkpoints" / "3"))
    with pytest.raises(CannotWriteError, match=f"^cannot write {path}: {told}"):
        run(tmp_path, loader)
    assert loader.done == 3, "the step after the checkpoint's, not the next checkpoint"
    assert len((tmp_path / metrics.FILE).read_text().splitlines()) >= 3


def test_a_checkpoint_that_can_not_even_begin(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import orbax.checkpoint as ocp

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(CannotWriteError, match=f"cannot write {re.escape(str(tmp_path / '2'))}: No space left"):
        checkpoints.save(_State())
    checkpoints.close()


class _State:
    """The state of a run, as far as `save` looks."""

    step, key = 2, jax.random.key(0)

    def _replace(self, key):
        return {"key": key}


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_tensorboard_waits_for_no_thread_that_is_dead(tmp_path, monkeypatch):
    board = Board(tmp_path)
    events = board._board.file_writer.event_writer
    monkeypatch.setattr(events._file._py_recordio_writer, "_writer", Full())
    for _ in range(3):  # its queue would have held ten, and then for ever
        with pytest.raises(CannotWriteError, match="No space left on device"):
            board.add(0, dict.fromkeys(map(str, range(30)), 1.0), {})
    monkeypatch.undo()
    board.close()


def test_metrics_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    writer = metrics.Writer(tmp_path)
    writer.write(0, {"loss": 1.0})
    writer.flush()
    before = (tmp_path / metrics.FILE).read_bytes()
    writer.write(1, {"loss": 2.0})

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(CannotWriteError, match=r"metrics\.jsonl: No space left"):
        patch.setattr(os, "fsync", full)
        writer.flush()
    assert (tmp_path / metrics.FILE).read_bytes() == before
    writer.close()
    assert len((tmp_path / metrics.FILE).read_text().splitlines()) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_whoever_meets_it_a_command_says_one_line(capsys, number):
    @command
    def main():
        raise OSError(number, os.strerror(number), "run/some file")

    with pytest.raises(SystemExit) as stopped:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and line.startswith(f"error: cannot write run/some file: {os.strerror(number)}; ")


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file descriptor"), FileNotFoundError(2, "No such file")])
def test_a_fault_of_ours_keeps_its_traceback(error):
    @command
    def main():
        raise error

    with pytest.raises(type(error)):
        main()


def test_a_place_in_a_bucket_is_told_too():
    class Down(type(epath.Path("fake://bucket/a"))):
        def open(self, mode="r"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    from lrm_align import atomic_files

    with pytest.raises(CannotWriteError, match=r"cannot write .*bucket/a: Permission denied; make it writable"):
        atomic_files.write_text(Down("fake://bucket/a"), "{}")


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("… [os_error_code='28']"), 0), (ValueError("shapes differ"), 1), (KeyError("os_error_code='28'"), 1)],
)
def test_what_asyncio_tells_of_a_full_disk_is_told_already_and_nothing_else_is(caplog, error, told):
    with quiet():
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)
    assert len(caplog.records) == 2 * told


def test_a_signal_while_a_checkpoint_is_read_waits_for_its_end(tmp_path, monkeypatch):
    """Orbax reads in an event loop that may swallow what is raised there."""
    import orbax.checkpoint as ocp

    run(tmp_path, Counting(STEPS))
    restore, read = ocp.CheckpointManager.restore, []

    def restores(self, *args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        read.append(restore(self, *args, **options))
        return read[-1]

    monkeypatch.setattr(ocp.CheckpointManager, "restore", restores)
    with pytest.raises(stopping.Stopped), stopping.listening():
        run(tmp_path, Counting(STEPS))
    assert len(read) == 2, "who it belongs to, and the arrays"
