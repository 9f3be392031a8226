"""Data files that strangers made: each reader ends in one line, at once, whatever lies there."""

import io
import json
import os

import pyarrow
import pyarrow.parquet
import pytest

from lrm_align.chat import load, preferences, rows
from lrm_align.errors import UserError
from lrm_align.evals import benchmark_files
from lrm_align.recipes import rules

READERS = {  # suffixes that it reads, and how
    "prompts": (".jsonl .json .csv .tsv .parquet", lambda path: load(path, columns={"text": "prompt"}, label="benign")),
    "pairs": (".jsonl .json .csv .tsv .parquet", preferences.load),
    "benchmark": (".jsonl .json .csv .tsv .parquet", lambda path: benchmark_files.load("oktest", path=path)),
    "rules": (".json", rules.load),
}
JSON_FAULTS = {
    "a key that stands twice": ('{"prompt": "a", "prompt": "b"}', "'prompt' stands twice"),
    "a deep key that stands twice": ('{"prompt": "a", "m": [{"x": 1, "x": 2}]}', "'x' stands twice"),
    "nesting without end": ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "in one another"),
    "nesting beyond other readers": ('{"prompt": ' + "[" * 200 + "]" * 200 + "}", "in one another"),
    "half a surrogate pair": ('{"prompt": "a\\ud800"}', "half a surrogate pair"),
    "half a surrogate pair in a key": ('{"prompt": "a", "\\udfff": 1}', "half a surrogate pair"),
    "NaN": ('{"prompt": "a", "n": NaN}', "NaN is no JSON number"),
    "an infinite number": ('{"prompt": "a", "n": 1e999}', "beyond the range"),
    "an integer of thousands of digits": ('{"prompt": "a", "n": ' + "1" * 5000 + "}", "beyond the range"),
    "a cut line": ('{"prompt": "a', "not valid JSON"),
    "bytes that are not UTF-8": ('{"prompt": "é"}'.encode("latin-1"), "not UTF-8"),
    "nothing": ("", "empty|not valid JSON"),
    "null": ("null", "NoneType|null"),
}


def written(place, suffix, content):
    data = content if isinstance(content, bytes) else content.encode()
    if suffix == ".json" and data and data != b"null":
        data = b"[" + data + b"]"
    path = place / f"file{suffix}"
    path.write_bytes(data)
    return str(path)


def refused(reader, path, says):
    with pytest.raises(UserError, match=says) as error:
        READERS[reader][1](path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000 + len(path)


@pytest.mark.parametrize("fault", JSON_FAULTS)
@pytest.mark.parametrize("reader", READERS)
def test_json(tmp_path, reader, fault):
    content, says = JSON_FAULTS[fault]
    for suffix in {".jsonl", ".json"} & set(READERS[reader][0].split()):
        refused(reader, written(tmp_path, suffix, content), says)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def endless(path):
    with path.open("wb") as file:
        file.truncate(1 << 42)  # takes no room on the disk


PLACES = {
    "a FIFO": (fifo, "FIFO|no such file"),
    "a device": (device, "device|no such file"),
    "a directory": (os.mkdir, "directory|no such file"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic|no such file"),
    "four terabytes": (endless, "longer than"),
    "nothing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(tmp_path, reader, place):
    make, says = PLACES[place]
    for suffix in READERS[reader][0].split():
        path = tmp_path / f"x{suffix}"
        try:
            make(path)
        except OSError as error:
            pytest.skip(f"this file system does not make {place}: {error}")
        refused(reader, str(path), says)


@pytest.mark.parametrize("name", ["a\0b.jsonl", "x" * 5000 + ".csv", "x" * 5000, "a\0b", ".jsonl", "\ud800.csv"])
def test_names(name):
    for reader in READERS:
        refused(reader, name, ".")


TABLES = {
    "a column that stands twice": ("prompt,label,prompt\na,b,c\n", "'prompt' first"),
    "fields that are missing": ("prompt,label\na\n", "number of fields differs"),
    "fields that are too many": ("prompt\na,b\n", "number of fields differs"),
    "a quote that never ends": ('prompt\n"a\n', "unexpected end"),
    "a header alone": ("prompt\n", "is empty"),
}


@pytest.mark.parametrize("fault", TABLES)
@pytest.mark.parametrize("reader", [name for name in READERS if name != "rules"])
def test_tables(tmp_path, reader, fault):
    content, says = TABLES[fault]
    refused(reader, written(tmp_path, ".csv", content), says)
    refused(reader, written(tmp_path, ".tsv", content.replace(",", "\t")), says)


def test_columns_without_a_name_are_no_columns(tmp_path):
    path = written(tmp_path, ".csv", "prompt,,\na,,\n")  # as spreadsheets write them
    assert [prompt.text for prompt in load(path, columns={"text": "prompt"}, label="benign")] == ["a"]


def parquet(table):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


GOOD = parquet(pyarrow.table({"prompt": [f"prompt {i}" for i in range(2000)]}))
PARQUETS = {
    "cut": (GOOD[: len(GOOD) // 2], "not readable as Parquet"),
    "cut pages": (GOOD[:200] + GOOD[-600:], "not readable as Parquet"),
    "text": (b"PAR1 no PAR1", "not readable as Parquet"),
    "no column": (parquet(pyarrow.table({})), "is empty"),
    "no row": (parquet(pyarrow.table({"prompt": pyarrow.array([], "string")})), "is empty"),
    "a column that stands twice": (
        parquet(pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["prompt", "prompt"])),
        "'prompt' first",
    ),
    "bytes for text": (parquet(pyarrow.table({"prompt": [b"\xff\xfe"]})), "bytes|no text"),
    "numbers for text": (parquet(pyarrow.table({"prompt": [1.5]})), "float|no text"),
    "nothing for text": (parquet(pyarrow.table({"prompt": pyarrow.array([None], "string")})), "empty"),
    "dates beyond Python's": (
        parquet(pyarrow.table({"prompt": ["a"], "when": pyarrow.array([1 << 53], pyarrow.timestamp("ms"))})),
        "not readable as Parquet",
    ),
}


@pytest.mark.parametrize("fault", PARQUETS)
@pytest.mark.parametrize("reader", ["prompts", "benchmark"])
def test_parquet(tmp_path, reader, fault):
    content, says = PARQUETS[fault]
    refused(reader, written(tmp_path, ".parquet", content), says)


def test_a_small_parquet_of_too_many_rows_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST", 1000)
    refused("prompts", written(tmp_path, ".parquet", GOOD), "2,000 rows; at most 1,000")


@pytest.mark.parametrize("value", [1 << 64, {"a": [b"x"]}, float("nan"), {"a": [float("inf")]}])
def test_what_no_record_can_hold_is_not_kept(tmp_path, monkeypatch, value):
    monkeypatch.setattr(rows, "read", lambda *_: [{"prompt": "a", "n": value}])
    with pytest.raises(UserError, match=r"row 1: column n is to be kept, and holds .*expected text"):
        load("x.parquet", columns={"text": "prompt"}, label="benign", meta=["n"])


def test_what_a_terminal_obeys_is_spelled_out(tmp_path, capsys):
    from lrm_align.errors import command

    path = written(tmp_path, ".jsonl", json.dumps({"\x1b[2J\u202eprompts": "a"}))
    with pytest.raises(SystemExit) as left:
        command(lambda: READERS["prompts"][1](path))()
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.count("\n") == 1 and "\x1b" not in said and "\u202e" not in said
    assert r"\x1b[2J\u202eprompts" in said


def test_messages_in_a_cell_are_read_as_strictly(tmp_path):
    cell = '[{"role": "user", "role": "assistant", "content": "a"}]'
    path = tmp_path / "pairs.csv"
    path.write_text(f'prompt,chosen,rejected\na,"{cell.replace(chr(34), chr(34) * 2)}",b\n')
    refused("pairs", str(path), "'role' stands twice")
