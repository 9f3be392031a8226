"""A cache of the hub as its client lays it out, filled from a directory: tests that read hub ids need no network."""

import pathlib
import shutil

REVISION = "0123456789abcdef0123456789abcdef01234567"


def fill(root: pathlib.Path, directory: pathlib.Path, name: str, monkeypatch) -> pathlib.Path:
    """Puts a directory's files into a new cache below `root` as the hub id `name`; returns the snapshot.

    The files of a snapshot are links to blobs, beside it.
    """
    repo = root / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    for number, file in enumerate(sorted(path for path in directory.iterdir() if path.is_file())):
        shutil.copy(file, repo / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "hub"))
    return snapshot
