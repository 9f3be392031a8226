"""safetensors files as byte ranges: tensors are read slice by slice and written one by one, never a file at a time.

The format (https://github.com/huggingface/safetensors#format) is an 8-byte little-endian header length, a JSON header
{name: {"dtype", "shape", "data_offsets"}}, and the tensors' bytes in row-major order without gaps.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from etils import epath

from lrm_align.errors import UserError

DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # The format's own limit; a longer one is a foreign or damaged file.


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
            data = file.read(math.prod(self.shape) * self.dtype.itemsize)
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
      UserError: a file that is missing, damaged, truncated or no safetensors file, a dtype other than float32, float16
        and bfloat16, or a tensor that two files hold.
    """
    found: dict[str, StoredTensor] = {}
    for path in paths:
        for tensor in _header(path):
            if tensor.name in found:
                raise UserError(f"{path}: tensor {tensor.name} is also in {found[tensor.name].path.name}")
            found[tensor.name] = tensor
    return found


def _header(path: epath.Path) -> list[StoredTensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file, though the model's index names it")
    size = path.stat().length
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise UserError(
                f"{path}: {size} bytes are no safetensors file, or a truncated one: its header is incomplete"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        ranges = {
            name: (*entry["data_offsets"], entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: the header is not that of a safetensors file") from None
    data = 8 + length
    promised = data + max((end for _, end, _, _ in ranges.values()), default=0)
    if promised != size:
        raise UserError(
            f"{path}: the file has {size} bytes, its header describes {promised}; it was cut or appended to"
        )
    tensors = []
    for name, (begin, end, dtype, shape) in ranges.items():
        if dtype not in DTYPES:
            raise UserError(f"{path}: tensor {name} is stored as {dtype}; supported are {', '.join(DTYPES)}")
        if end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
            raise UserError(f"{path}: tensor {name} has {end - begin} bytes, which {dtype}{list(shape)} does not need")
        tensors.append(StoredTensor(path, name, DTYPES[dtype], shape, data + begin))
    return tensors


def write(path: epath.Path, tensors: Sequence[NewTensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes one file; one tensor is in memory at a time."""
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
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in tensors:
            array = tensor.read()
            if array.shape != tensor.shape or array.dtype != tensor.dtype:
                raise ValueError(f"{tensor.name} is {array.dtype}{array.shape}, not {tensor.dtype}{tensor.shape}")
            # Viewed as bytes: bfloat16 has no buffer format of its own.
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
