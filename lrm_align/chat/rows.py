"""Rows of a JSON, JSONL, CSV or Parquet file, or of a `datasets` id, as plain mappings."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
from etils import epath

from lrm_align.errors import UserError, one_line

Row = dict[str, Any]
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 128 KiB is shorter than some jailbreak prompts


def read(path: str, split: str = "train", subset: str = "") -> list[Row]:
    """All rows of a file, by its suffix, or of a split of a `datasets` id.

    Args:
      path: ending in .jsonl, .json (a list), .csv, .tsv or .parquet; on a bucket, too. Anything else that is no file is
        taken for a `datasets` id. A bare string in a JSON list is a row with the one column "text".
      split: of a `datasets` id; files have none.
      subset: the config of a `datasets` id that has several.

    Raises:
      UserError: no such file or id, undecodable bytes, a broken or empty file.
    """
    place = epath.Path(path)
    suffix = place.suffix.lower()
    if suffix not in _READERS:
        if place.exists():
            raise UserError(f"prompts: {path} is no file that can be read; expected {', '.join(_READERS)}")
        return _nonempty(_from_datasets(path, split, subset), path)
    if not place.is_file():
        raise UserError(f"prompts: no such file: {path}")
    return _nonempty(_READERS[suffix](place.read_bytes(), path), path)


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


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError of its own: an integer of thousands of digits
        raise UserError(f"prompts: {where} is not JSON: {one_line(error)}") from None


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
            yield _object(_json(line, where), where)


def _json_list(content: bytes, path: str) -> Iterator[Row]:
    text = _text(content, path)
    rows = _json(text, path) if text.strip() else []
    if not isinstance(rows, list):
        raise UserError(f"prompts: {path} holds a {type(rows).__name__}; expected a list of objects")
    for number, row in enumerate(rows, start=1):
        yield _object(row, f"{path}, row {number}")


def _csv(content: bytes, path: str, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(_text(content, path), newline=""), delimiter=delimiter, strict=True)
    try:
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
        yield from pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"prompts: {path} is not readable as Parquet: {one_line(error)[:200]}") from None


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
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"prompts: {name!r} is neither a file nor a `datasets` id that can be loaded (split {split!r}): "
            f"{one_line(error)[:200]}"
        ) from None
