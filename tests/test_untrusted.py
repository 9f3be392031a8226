"""Files of strangers: what is JSON comes back as json gives it, what is not ends in one line, and nothing waits."""

import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align import untrusted
from lrm_align.errors import UserError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Characters of all planes; a surrogate alone is none.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_what_is_json_comes_back_whole(value, ascii_only):
    assert untrusted.parse_json(json.dumps(value, ensure_ascii=ascii_only).encode(), "here") == value


def test_depth_up_to_the_limit_and_no_further():
    nested = lambda depth: "[" * depth + "]" * depth  # noqa: E731
    assert untrusted.parse_json(nested(untrusted.DEEPEST + 1), "here")
    for depth in (untrusted.DEEPEST + 2, 5000, 2_000_000):
        with pytest.raises(UserError, match="here: more than 100 arrays and objects in one another"):
            untrusted.parse_json(nested(depth), "here")
        with pytest.raises(UserError, match="here: more than 100 arrays and objects in one another"):
            untrusted.parse_json('{"a":' * depth + "1" + "}" * depth, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON: Expecting value"),
        (b"{", "not valid JSON: Expecting property name"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"a": 2}', "not valid JSON: Extra data"),
        (b'{"a": "\xff"}', "byte 7 is 0xff, which is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "byte 7 is 0xed, which is not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON: Unexpected UTF-8 BOM"),
        (json.dumps({"a": 1}).encode("utf-16"), "not UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands twice in one object"),
        (b'{"\\u001b[2J": 1, "\\u001b[2J": 1}', r"the key '\\x1b\[2J' stands twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[1e999]", "1e999 is beyond the range of float64"),
        (b"[" + b"9" * 400 + b"]", "an integer of 400 digits is beyond the range of float64"),
        (b"[" + b"9" * 40_000 + b"]", "an integer of 40000 digits is beyond the range of float64"),
        (b'["\\ud800"]', "half a surrogate pair"),
        (b'{"\\uDE00\\uD83D": 1}', "half a surrogate pair"),
        (b'["a\\u0000\x01"]', "not valid JSON: Invalid control character"),
    ],
)
def test_what_is_not_json(content, message, tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        untrusted.read_json(file)
    assert str(error.value).startswith(f"{file}: ")
    str(error.value).encode()


def test_escaped_pairs_are_characters():
    assert untrusted.parse_json('["\\ud83d\\ude00", "\\\\ud800"]', "here") == ["😀", "\\ud800"]


@pytest.mark.parametrize(("value", "name"), [("[]", "array"), ("1", "number"), ('"x"', "string"), ("null", "null")])
def test_an_object_is_asked_for(value, name, tmp_path):
    (tmp_path / "config.json").write_text(value)
    with pytest.raises(UserError, match=f"holds a JSON {name}, not an object"):
        untrusted.read_object(tmp_path / "config.json")


def loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a directory, where a regular file is expected"),
        (lambda path: os.mkfifo(path), "a FIFO, where a regular file is expected"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, where a regular file is expected"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (loop, "cannot be read: .*symbolic links"),
        (lambda path: path.write_bytes(b" " * 1001), "longer than .* MiB"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="FIFOs and devices are those of a Unix")
def test_only_regular_files_of_a_sane_size(make, message, tmp_path):
    make(tmp_path / "config.json")
    with pytest.raises(UserError, match=message):
        untrusted.read_bytes(tmp_path / "config.json", limit=1000)


def test_a_link_to_a_regular_file_is_one(tmp_path):
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "config.json").symlink_to("blob")
    assert untrusted.read_object(tmp_path / "config.json") == {}


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_no_file_has(name):
    with pytest.raises(UserError, match="cannot be read"):
        untrusted.read_bytes(name)
