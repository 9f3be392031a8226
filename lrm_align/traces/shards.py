"""Shards: an ArrayRecord of traces plus a manifest beside it, written last.

Object stores have no rename and no append, so nothing here relies on either. The data goes to its place as a whole,
under a name that holds a part of its checksum; the manifest follows, and is created once. Whatever a killed writer
leaves behind, data without a manifest or a manifest cut short, does not exist for readers.
"""

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from lrm_align import atomic_files, untrusted
from lrm_align.errors import UserError, cannot_write
from lrm_align.traces.manifest import DATA_SUFFIX, SUFFIX, Manifest, check_name, describe, name_of
from lrm_align.traces.record import Trace

_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard: where it lies and what its manifest says."""

    directory: epath.Path
    manifest: Manifest

    @property
    def path(self) -> epath.Path:
        """The ArrayRecord file."""
        return self.directory / self.manifest.data


def write_shard(directory: epath.PathLike, name: str, traces: Sequence[Trace], recipe_hash: str) -> Shard:
    """Writes traces as one shard: a local temporary file, its copy in the directory, and the manifest last.

    Args:
      directory: anything that `etils.epath` opens; made if it is not there.
      name: name of the shard in the directory.
      traces: what to write, in this order.
      recipe_hash: hash of the recipe that they come from.

    Raises:
      UserError: if a finished shard of that name is there, or the directory cannot be written.
    """
    root = epath.Path(directory)
    place = root / (check_name(name) + SUFFIX)
    traces = list(traces)
    records = [trace.to_bytes() for trace in traces]
    try:
        root.mkdir(parents=True, exist_ok=True)
        _refuse_finished(place)
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch, "shard")
            # A group is the unit of random access: groups of one, since training reads in random order.
            writer = ArrayRecordWriter(str(local), "group_size:1")
            for record in records:
                writer.write(record)
            writer.close()
            data = local.read_bytes()
        manifest = describe(name, traces, hashlib.sha256(data).hexdigest(), len(data), recipe_hash)
        atomic_files.write_bytes(root / manifest.data, data)
        _create(place, manifest.to_json())
    except FileExistsError:
        raise UserError(f"{place}: another writer finished a shard of this name at the same time") from None
    except OSError as error:
        raise cannot_write(f"shard {name!r} in {root}", error) from error
    except RuntimeError as error:  # ArrayRecord's, of the temporary file
        raise UserError(f"cannot write shard {name!r} in {tempfile.gettempdir()}: {error}") from error
    return Shard(root, manifest)


def list_shards(directory: epath.PathLike, recipe_hash: str | None = None) -> list[Shard]:
    """The finished shards of a directory, by name; none where there is no directory.

    Raises:
      UserError: for a damaged manifest, or one of another recipe than the one asked for.
    """
    root = epath.Path(directory)
    if not root.exists():
        return []
    shards = []
    for path in sorted(root.iterdir(), key=lambda path: path.name):
        manifest = _read_manifest(path) if path.name.endswith(SUFFIX) else None
        if manifest is None:
            continue
        if recipe_hash is not None and manifest.recipe_hash != recipe_hash:
            raise UserError(
                f"{path}: a shard of another recipe (hash {manifest.recipe_hash[:12]!r}, this run's is "
                f"{recipe_hash[:12]!r}); use another directory, or remove it"
            )
        shards.append(Shard(root, manifest))
    return shards


def find_shards(path: epath.PathLike) -> list[Shard]:
    """The shards that a path names: all of a directory, or the one of a data file or manifest.

    Raises:
      UserError: if there is none.
    """
    place = epath.Path(path).expanduser()
    if place.is_dir():
        shards = list_shards(place)
        if not shards:
            raise UserError(f"{place}: no finished shard here (a shard counts from its *{SUFFIX} on)")
        return shards
    name = name_of(place.name)
    if not place.exists():
        raise UserError(f"{place}: no such shard or directory")
    if name is None:
        raise UserError(f"{place}: not a shard; wanted NAME-CHECKSUM{DATA_SUFFIX}, NAME{SUFFIX} or their directory")
    manifest = _read_manifest(place.parent / (name + SUFFIX))
    if manifest is None:
        raise UserError(f"{place}: no complete manifest {name + SUFFIX} beside it; the shard was never finished")
    if place.name not in (manifest.data, manifest.file_name):
        raise UserError(f"{place}: foreign data; the manifest beside it names {manifest.data}")
    return [Shard(place.parent, manifest)]


class ShardReader(Sequence[Trace]):
    """The traces of a shard by index, decoded when asked for. Made by `read_shard`."""

    def __init__(self, shard: Shard):
        self.manifest = shard.manifest
        self._path = shard.path
        try:
            local = self._fetch()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        try:
            # No read-ahead: the reader is for random access.
            self._reader = ArrayRecordReader(local, "readahead_buffer_size:0,max_parallelism:0")
            count = self._reader.num_records()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self._path}: not an ArrayRecord: {error}") from None
        if count != self.manifest.count:
            raise UserError(f"{self._path}: holds {count} records, its manifest says {self.manifest.count}")

    def _fetch(self) -> str:
        """Checks the checksum of the data; returns a local file that holds it (a copy, if the data is remote)."""
        remote = not atomic_files.is_local(self._path)
        digest, size = hashlib.sha256(), 0
        self._scratch = tempfile.TemporaryDirectory() if remote else None  # lives as long as the reader
        local = Path(self._scratch.name, "shard") if self._scratch else Path(self._path)
        if not self._path.exists():
            raise UserError(f"{self._path}: the shard's data is missing, its manifest is there")
        with self._path.open("rb") as source, (local if remote else Path(os.devnull)).open("wb") as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
        if size != self.manifest.bytes:
            wanted = self.manifest.bytes
            raise UserError(f"{self._path}: truncated or foreign: {size} bytes, its manifest says {wanted}")
        if digest.hexdigest() != self.manifest.sha256:
            raise UserError(f"{self._path}: damaged or foreign: its checksum is not the manifest's")
        return str(local)

    def __len__(self) -> int:
        return self.manifest.count

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trace]: ...
    def __getitem__(self, index: int | slice) -> Trace | list[Trace]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self._path}: no trace {index} of {len(self)}")
        number = index % len(self)
        try:
            trace = Trace.from_bytes(self._reader.read([number])[0])
        except (UserError, RuntimeError, ValueError) as error:
            raise UserError(f"{self._path}: trace {number} is damaged: {error}") from None
        found = (trace.key, (trace.prompt_ids.size, trace.completion_ids.size))
        if found != (self.manifest.keys[number], self.manifest.lengths[number]):
            raise UserError(f"{self._path}: trace {number} is {found}, not the one that the manifest lists")
        return trace

    def __iter__(self) -> Iterator[Trace]:
        return (self[index] for index in range(len(self)))


def read_shard(shard: Shard | epath.PathLike) -> ShardReader:
    """Opens a shard for random access, after comparing its checksum with the manifest's.

    Raises:
      UserError: naming a shard that is truncated, altered, foreign or was never finished.
    """
    if isinstance(shard, Shard):
        return ShardReader(shard)
    found = find_shards(shard)
    if len(found) != 1:
        raise UserError(f"{epath.Path(shard)}: holds {len(found)} shards; name one of them")
    return ShardReader(found[0])


def verify(shard: Shard | epath.PathLike) -> Manifest:
    """Reads a shard from end to end: checksum, every record, and every entry of the manifest.

    Raises:
      UserError: naming the shard and what is wrong with it.
    """
    reader = read_shard(shard)
    listed = reader.manifest
    found = describe(listed.name, list(reader), listed.sha256, listed.bytes, listed.recipe_hash)
    if found != listed:
        wrong = [f.name for f in dataclasses.fields(Manifest) if getattr(found, f.name) != getattr(listed, f.name)]
        raise UserError(f"{listed.name}: the manifest's {', '.join(wrong)} do not agree with the records")
    return listed


def _read_manifest(path: epath.Path) -> Manifest | None:
    """The manifest at a path; None where there is none, or one that a killed writer left cut."""
    return Manifest.from_json(untrusted.read_text(path), str(path)) if path.exists() else None


def _refuse_finished(place: epath.Path) -> None:
    if _read_manifest(place) is not None:
        raise UserError(f"{place}: a finished shard of this name is already there, and is never overwritten")


def _create(place: epath.Path, text: str) -> None:
    """Writes a manifest where there is none, or one that a kill cut short."""
    if place.exists():
        _refuse_finished(place)
        place.unlink()
    atomic_files.create_text(place, text)
