"""A store like a bucket, for tests of what must not rely on renaming, appending or exclusive creation."""

import io
import pathlib

from etils import epath


class _Upload(io.BytesIO):
    """What is written becomes an object when it is closed, as in a bucket."""

    def __init__(self, path: "ObjectStorePath"):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()


@epath.register_path_cls("fake://")
class ObjectStorePath(pathlib.PurePosixPath):
    """A store like a bucket: whole objects only; no rename, no append, no exclusive creation, no directories."""

    objects: dict[str, bytes] = {}  # noqa: RUF012  (one bucket for all paths)

    def __fspath__(self) -> str:
        return str(self).replace("fake:/", "fake://", 1)

    def exists(self) -> bool:
        return str(self) in self.objects or self.is_dir()

    def expanduser(self) -> "ObjectStorePath":
        return self

    def is_dir(self) -> bool:
        return any(name.startswith(f"{self}/") for name in list(self.objects))

    def is_file(self) -> bool:
        return str(self) in self.objects

    def mkdir(self, mode=None, parents=False, exist_ok=False) -> None:
        pass

    def iterdir(self):
        names = list(self.objects)
        return [self / name.rsplit("/", 1)[1] for name in names if name.rsplit("/", 1)[0] == str(self)]

    def read_bytes(self) -> bytes:
        if str(self) not in self.objects:
            raise FileNotFoundError(str(self))
        return self.objects[str(self)]

    def write_bytes(self, data: bytes) -> int:
        self.objects[str(self)] = bytes(data)
        return len(data)

    def unlink(self) -> None:
        if self.objects.pop(str(self), None) is None:
            raise FileNotFoundError(str(self))

    def open(self, mode: str = "r"):
        assert mode in ("rb", "wb"), f"an object store cannot open with {mode!r}"
        return io.BytesIO(self.read_bytes()) if mode == "rb" else _Upload(self)

    def rename(self, target):
        raise OSError("an object store has no rename")

    replace = rename
