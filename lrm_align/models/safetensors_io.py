"""safetensors files as byte ranges: tensors are read slice by slice and written one by one, never a file at a time.

The format (https://github.com/huggingface/safetensors#format) is an 8-byte little-endian header length, a JSON header
{name: {"dtype", "shape", "data_offsets"}}, and the tensors' bytes in row-major order: from the header's end to the
file's end, each tensor where another ends. Whatever a header says is checked before it is used, since others wrote it;
offsets need not be aligned.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from etils import epath

from lrm_align import atomic_files, untrusted
from lrm_align.errors import UserError
from lrm_align.untrusted import named, shown

DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_AXES = 32


class StoredTensor(NamedTuple):
    """Where one tensor lies.

    Attributes:
      path: the file.
      name: the tensor's name in it.
      dtype: as stored.
      shape: as stored.
      offset: of its first byte in the file.
    """

    path: epath.Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def open(self) -> np.ndarray:
        """A view of the tensor: mapped into memory where the file is local, read where it is not.

        A mapping's pages are handed back when the last view of it goes, so that reading a model never keeps its files
        in memory.
        """
        if math.prod(self.shape) == 0:
            return np.empty(self.shape, self.dtype)
        if "://" not in str(self.path):
            return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.nbytes)
        return np.frombuffer(data, self.dtype).reshape(self.shape)


class NewTensor(NamedTuple):
    """A tensor to be written; its bytes are asked for when their turn comes."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def index(paths: Iterable[epath.Path]) -> dict[str, StoredTensor]:
    """The tensors of some files by name, from their headers alone.

    Raises:
      UserError: a file that is missing, damaged, truncated or no safetensors file, a header whose byte ranges overlap,
        leave gaps or don't fit the shapes, a dtype other than float32, float16 and bfloat16, or a tensor that two files
        hold.
    """
    found: dict[str, StoredTensor] = {}
    for path in paths:
        for tensor in _header(path):
            if tensor.name in found:
                raise UserError(f"{path}: tensor {named(tensor.name)} is also in {found[tensor.name].path.name}")
            found[tensor.name] = tensor
    return found


def _header(path: epath.Path) -> list[StoredTensor]:
    with untrusted.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise UserError(
                f"{path}: {size} bytes are no safetensors file, or a truncated one: its header is incomplete"
            )
        if length > untrusted.LARGEST:  # the format allows 100 MB; 130,000 tensors fit in ours
            raise UserError(f"{path}: its header has {length:,} bytes; at most {untrusted.LARGEST:,} are read")
        raw = file.read(length)
    header = untrusted.parse_json(raw, f"{path}: the header")
    if not isinstance(header, dict):
        raise UserError(f"{path}: the header holds a JSON {untrusted.json_type(header)}, not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{path}: __metadata__ is {shown(metadata)}; expected an object of strings")
    data = 8 + length
    tensors = [_described(path, name, entry, data) for name, entry in header.items()]
    end = data
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset != end:
            raise UserError(
                f"{path}: tensor {named(tensor.name)} begins at byte {tensor.offset - data}, where the one before it "
                f"ends at {end - data}: {'they overlap' if tensor.offset < end else 'there is a gap'}"
            )
        end += tensor.nbytes
    if end != size:
        raise UserError(f"{path}: the file has {size} bytes, its header describes {end}; it was cut or appended to")
    return tensors


def _described(path: epath.Path, name: str, entry: Any, data: int) -> StoredTensor:
    """One tensor of a header, whose bytes begin at `data`."""
    where = f"{path}: tensor {named(name)}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is described by a JSON {untrusted.json_type(entry)}; expected an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(f"{where} is stored as {named(dtype)}; supported are {', '.join(DTYPES)}")
    sizes: list[Any] = shape if isinstance(shape, list) else [None]
    # The axes of a tensor without elements, too: NumPy multiplies them.
    if not all(_is_count(n) for n in sizes) or len(sizes) > _AXES or math.prod(max(1, n) for n in sizes) >= 2**60:
        raise UserError(f"{where}: shape is {shown(shape)}; expected at most {_AXES} whole numbers")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise UserError(f"{where}: data_offsets is {shown(offsets)}; expected [begin, end]")
    begin, end = offsets
    if not _is_count(begin) or not _is_count(end) or begin > end:
        raise UserError(
            f"{where}: its bytes are {shown(begin)} to {shown(end)}; expected whole numbers, 0 ≤ begin ≤ end"
        )
    if end - begin != math.prod(sizes) * DTYPES[dtype].itemsize:
        raise UserError(f"{where} has {end - begin} bytes, which {dtype}{shown(sizes)} does not need")
    return StoredTensor(path, name, DTYPES[dtype], tuple(sizes), data + begin)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def write(path: epath.Path, tensors: Sequence[NewTensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes one file, whole or not at all; one tensor is in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # The format wants the data aligned.
    with atomic_files.writing(path) as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in tensors:
            array = tensor.read()
            if array.shape != tensor.shape or array.dtype != tensor.dtype:
                raise ValueError(f"{tensor.name} is {array.dtype}{array.shape}, not {tensor.dtype}{tensor.shape}")
            # Viewed as bytes: bfloat16 has no buffer format of its own.
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
