"""Rows of a JSON, JSONL, CSV or Parquet file, or of a `datasets` id, as plain mappings; read strictly."""

import collections
import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
from etils import epath

from lrm_align import untrusted
from lrm_align.errors import UserError, one_line

Row = dict[str, Any]
LARGEST = 4096 * untrusted.MEBIBYTE  # A million conversations have about 3 GiB.
MOST = 10_000_000  # rows; a Parquet file of a few kilobytes can say that it has more than memory holds
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 128 KiB is shorter than some jailbreak prompts


def read(path: str, split: str = "train", subset: str = "") -> list[Row]:
    """All rows of a file, by its suffix, or of a split of a `datasets` id.

    Args:
      path: ending in .jsonl, .json (a list), .csv, .tsv or .parquet; on a bucket, too. Anything else that is no file is
        taken for a `datasets` id. A bare string in a JSON list is a row with the one column "text".
      split: of a `datasets` id; files have none.
      subset: the config of a `datasets` id that has several.

    Raises:
      UserError: no such file or id, no regular file, one that is too large; undecodable bytes, JSON that
        `untrusted.parse_json` refuses, a column that stands twice, a broken or empty file.
    """
    place = epath.Path(path).expanduser()
    suffix = place.suffix.lower()
    if suffix in _READERS:
        try:
            content = untrusted.read_bytes(place, LARGEST)
        except UserError as error:
            raise UserError(f"prompts: {error}") from None
        return _nonempty(_READERS[suffix](content, path), path)
    try:
        there = place.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null character
        raise UserError(f"prompts: {untrusted.shown(path)} cannot be read: {one_line(error)[:200]}") from None
    if there:
        raise UserError(f"prompts: {path} is no file that can be read; expected {', '.join(_READERS)}")
    return _nonempty(_from_datasets(path, split, subset), path)


def _nonempty(rows: Iterable[Row], path: str) -> list[Row]:
    rows = list(rows)
    if not rows:
        raise UserError(f"prompts: {path} is empty; expected at least one row")
    return rows


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"prompts: undecodable text in {path}: byte 0x{content[error.start]:02x} in line {line} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def _object(value: Any, where: str) -> Row:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise UserError(f"prompts: {where} holds a {type(value).__name__}; expected an object with named columns")
    return value


def _jsonl(content: bytes, path: str) -> Iterator[Row]:
    # Only line feeds part the lines: JSON text may hold U+2028 and its like unescaped.
    for number, line in enumerate(_text(content, path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _object(untrusted.parse_json(line, f"prompts: {where}"), where)


def _json_list(content: bytes, path: str) -> Iterator[Row]:
    text = _text(content, path)
    rows = untrusted.parse_json(text, f"prompts: {path}") if text.strip() else []
    if not isinstance(rows, list):
        raise UserError(f"prompts: {path} holds a {type(rows).__name__}; expected a list of objects")
    for number, row in enumerate(rows, start=1):
        yield _object(row, f"{path}, row {number}")


def _csv(content: bytes, path: str, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(_text(content, path), newline=""), delimiter=delimiter, strict=True)
    try:
        _check_columns(reader.fieldnames or (), path)
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"prompts: {path}, line {reader.line_num}: the number of fields differs from the header's "
                    f"{len(reader.fieldnames or ())}"
                )
            yield row
    except csv.Error as error:
        raise UserError(f"prompts: {path}, line {reader.line_num}: {error}") from None


def _parquet(content: bytes, path: str) -> Iterator[Row]:
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        if file.metadata.num_rows > MOST:
            raise UserError(
                f"prompts: {path} says that it has {file.metadata.num_rows:,} rows; at most {MOST:,} are read"
            )
        _check_columns(file.schema_arrow.names, path)
        yield from file.read().to_pylist()
    # OSErrors where pages are cut; the others for text that is no UTF-8, dates beyond Python's, sizes beyond memory.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise UserError(f"prompts: {path} is not readable as Parquet: {one_line(error)[:200]}") from None


def _check_columns(names: Iterable[str], path: str) -> None:
    twice = [name for name, times in collections.Counter(names).items() if times > 1 and name.strip()]
    if twice:
        raise UserError(
            f"prompts: {path} has {len(twice)} column names that stand twice, {untrusted.shown(twice[0])} first; "
            "nobody can tell which of the columns is meant"
        )


_READERS = {
    ".jsonl": _jsonl,
    ".json": _json_list,
    ".csv": _csv,
    ".tsv": lambda content, path: _csv(content, path, "\t"),
    ".parquet": _parquet,
}


def _from_datasets(name: str, split: str, subset: str = "") -> Iterator[Row]:
    import datasets  # slow to import, and only hub ids need it

    try:
        yield from datasets.load_dataset(*filter(None, (name, subset)), split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"prompts: {untrusted.shown(name)} is neither a file nor a `datasets` id that can be loaded (split "
            f"{split!r}): {one_line(error)[:200]}"
        ) from None
