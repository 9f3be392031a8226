"""A file is the old one or the new one: after a failure, a kill, a full disk, and in a bucket."""

import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import CannotWriteError
from tests import object_store

PACKAGE = pathlib.Path(atomic_files.__file__).parent
WRITER = """
import itertools, sys
from lrm_align import atomic_files
print("ready", flush=True)
for turn in itertools.count():
    atomic_files.write_text(sys.argv[1], f"{turn % 7}" * 100_000)
"""


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """Where a file shall be: on a disk, in a bucket."""
    return epath.Path(tmp_path / "a.json" if request.param == "disk" else f"fake://{tmp_path}/a.json")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_failure_in_the_middle_changes_nothing(place):
    for before in (None, b"old"):
        with pytest.raises(KeyError), atomic_files.writing(place) as file:
            file.write(b"half of the ne")
            raise KeyError
        assert names(place.parent) == ([] if before is None else ["a.json"])
        assert before is None or place.read_bytes() == before
        atomic_files.write_bytes(place, b"old")
    atomic_files.write_text(place, "né")
    assert place.read_bytes() == "né".encode() and names(place.parent) == ["a.json"]


def test_what_is_created_is_never_overwritten(place):
    atomic_files.create_text(place, "first")
    with pytest.raises(FileExistsError, match=r"a\.json"):
        atomic_files.create_text(place, "second")
    assert place.read_bytes() == b"first" and names(place.parent) == ["a.json"]


def test_a_disk_without_hard_links(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    place = epath.Path(tmp_path / "a.json")
    test_what_is_created_is_never_overwritten(place)


@pytest.mark.parametrize("name", ["fsync", "link"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, r"No space left on device; free some space there, then give the same command again: it goes on"),
        (errno.EROFS, r"Read-only file system; make it writable or give another --workdir"),
        (errno.EBUSY, r"Device or resource busy$"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, name, number, advice):
    place = tmp_path / "a.json"
    place.write_text("old")

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    write = atomic_files.write_text
    if name == "link":
        place, write = tmp_path / "b.json", atomic_files.create_text
    with monkeypatch.context() as patch, pytest.raises(CannotWriteError, match=f"^cannot write {place}: {advice}"):
        patch.setattr(os, name, fail)
        write(place, "new")
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]


def test_a_full_disk(tmp_path):
    """The kernel's own error, where it has a device that is always full."""
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(CannotWriteError, match="No space left on device"), atomic_files.writing(tmp_path / "a"):
        full.write_text("a")
    assert not names(tmp_path)


def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    place = tmp_path / "a.json"
    for turn in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(0.02 * turn + 0.005)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        text = place.read_text() if place.exists() else "0" * 100_000
        assert len(text) == 100_000 and len(set(text)) == 1
    assert place.exists()
    atomic_files.remove_partials(tmp_path)
    assert names(tmp_path) == ["a.json"]


def test_sync_passes_over_what_another_job_has_renamed_meanwhile(tmp_path, monkeypatch):
    (tmp_path / f"{atomic_files.PARTIAL}0").write_text("a sign of life")
    monkeypatch.setattr(pathlib.Path, "is_file", lambda path: path.unlink() is None)
    atomic_files.sync(tmp_path)


def test_sync_takes_a_tree_with_links_and_buckets(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("b")
    (tmp_path / "a" / "gone").symlink_to(tmp_path / "nothing")
    atomic_files.sync(tmp_path)
    atomic_files.sync(object_store.ObjectStorePath("fake://bucket/a"))


WRITES = re.compile(r"(?<!atomic_files)\.write_(text|bytes)\(|open\([^)\n]*[\"'][wax]b?\+?[\"']")
# What writes otherwise: a probe that goes at once; locks, which hold nothing; the null device.
OTHERWISE = {"main.py": 1, "rl/locks.py": 1, "processes.py": 1, "traces/shards.py": 1}


def test_the_package_writes_files_in_one_way():
    found = {}
    for path in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "atomic_files.py"}):
        lines = [line for line in path.read_text().splitlines() if WRITES.search(line) and ">>>" not in line]
        if lines:
            found[path.relative_to(PACKAGE).as_posix()] = len(lines)
    assert found == OTHERWISE, "write whole files by lrm_align.atomic_files"
