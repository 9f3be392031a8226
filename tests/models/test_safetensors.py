"""safetensors files: every legal layout is read to the bit, and every lie about bytes ends in one line."""

import json
import math

import hypothesis
import jax
import numpy as np
import pytest
from etils import epath
from hypothesis import strategies as st
from safetensors import deserialize

from lrm_align.errors import UserError
from lrm_align.models import hf, safetensors_io, save
from lrm_align.models.safetensors_io import DTYPES, NAMES
from tests.families import tiny

SIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()}


def written(path, header, data, padding=b""):
    raw = (header if isinstance(header, bytes) else json.dumps(header).encode()) + padding
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return epath.Path(path)


def entry(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


@st.composite
def layouts(draw):
    """A header of some tensors in any order, its padding, and the bytes: nothing need be aligned."""
    header, begin = {}, 0
    for i in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from(sorted(SIZES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        end = begin + math.prod(shape) * SIZES[dtype]
        header[f"t{i}"] = entry(begin, end, shape, dtype)
        begin = end
    names = draw(st.permutations(sorted(header)))
    if draw(st.booleans()):
        header["__metadata__"] = {"format": "pt"}
        names = ["__metadata__", *names]
    data = draw(st.binary(min_size=begin, max_size=begin))
    return {name: header[name] for name in names}, b" " * draw(st.integers(0, 9)), data


def read(file):
    """{name: (dtype, shape, bytes)} as we read it, and as the format's own library does."""
    stored = safetensors_io.index([file])
    ours = {n: (NAMES[t.dtype], list(t.shape), np.asarray(t.open()).tobytes()) for n, t in stored.items()}
    theirs = {n: (t["dtype"], t["shape"], bytes(t["data"])) for n, t in deserialize(file.read_bytes())}
    return ours, theirs


@hypothesis.given(layouts())
def test_every_legal_layout_is_read_as_the_format_s_own_library_reads_it(tmp_path_factory, layout):
    header, padding, data = layout
    ours, theirs = read(written(tmp_path_factory.mktemp("file") / "model.safetensors", header, data, padding))
    assert ours == theirs and ours.keys() == header.keys() - {"__metadata__"}


LIES = st.sampled_from([-8, -1, 0, 1, 3, 4, 7, 8, 2**31, 2**63, 2**64, 10**30, 0.0, 4.0, True, None, "4", [4]])


@hypothesis.given(layouts(), st.data())
def test_what_is_accepted_their_library_accepts_too(tmp_path_factory, layout, data):
    """Headers with one number replaced: what is no longer legal is refused, what happens to be is read right."""
    header = json.loads(json.dumps(layout[0]))
    header.pop("__metadata__", None)
    hypothesis.assume(header)
    tensor = header[data.draw(st.sampled_from(sorted(header)))]
    place = data.draw(st.sampled_from(["begin", "end", "shape", "shapes", "offsets", "dtype"]))
    lie = data.draw(LIES)
    if place == "begin":
        tensor["data_offsets"][0] = lie
    elif place == "end":
        tensor["data_offsets"][1] = lie
    elif place == "shape":
        tensor["shape"] = [*tensor["shape"], lie]
    else:
        tensor[{"shapes": "shape", "offsets": "data_offsets", "dtype": "dtype"}[place]] = lie
    file = written(tmp_path_factory.mktemp("file") / "model.safetensors", header, layout[2])
    try:
        safetensors_io.index([file])
    except UserError as error:
        assert str(error).startswith(f"{file}: ") and len(str(error)) < 300 + len(str(file))
        return
    ours, theirs = read(file)
    assert ours == theirs


EIGHT = bytes(range(8))
NESTED = b'{"a":' * 5000 + b"1" + b"}" * 5000


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": entry(-8, 0, [2])}, b"", r"a: its bytes are -8 to 0; expected whole numbers, 0 ≤ begin ≤ end"),
        ({"a": entry(-4, 4, [2])}, EIGHT, r"a: its bytes are -4 to 4"),
        ({"a": entry(8, 0, [2])}, EIGHT, r"a: its bytes are 8 to 0"),
        ({"a": entry(0, 8) | {"data_offsets": [0.0, 8.0]}}, EIGHT, r"a: its bytes are 0\.0 to 8\.0"),
        ({"a": entry(0, 8) | {"data_offsets": [False, 8]}}, EIGHT, r"a: its bytes are False to 8"),
        ({"a": entry(0, 8) | {"data_offsets": ["0", "8"]}}, EIGHT, r"a: its bytes are '0' to '8'"),
        ({"a": entry(0, 8) | {"data_offsets": [0, 4, 8]}}, EIGHT, r"a: data_offsets is \[0, 4, 8\]"),
        ({"a": entry(0, 8) | {"data_offsets": 8}}, EIGHT, r"a: data_offsets is 8"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, EIGHT, r"b begins at byte 0, .* at 8: they overlap"),
        ({"a": entry(0, 8), "b": entry(4, 8)}, EIGHT, r"b begins at byte 4, .* at 8: they overlap"),
        ({"a": entry(4, 8)}, EIGHT, r"a begins at byte 4, .* at 0: there is a gap"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, EIGHT + EIGHT[:4], r"b begins at byte 8, .* at 4: there is a gap"),
        ({"a": entry(0, 8)}, EIGHT[:7], r"the file has \d+ bytes, its header describes \d+; it was cut"),
        ({"a": entry(0, 8)}, EIGHT + b"x", r"the file has \d+ bytes, its header describes \d+; it was cut or appended"),
        ({}, b"x", r"the file has \d+ bytes, its header describes \d+"),
        ({"a": entry(0, 2**50, [2**48])}, EIGHT, r"the file has \d+ bytes, its header describes \d+"),
        ({"a": entry(0, 8, [3])}, EIGHT, r"a has 8 bytes, which F32\[3\] does not need"),
        ({"a": entry(0, 8, [-1, -2])}, EIGHT, r"a: shape is \[-1, -2\]"),
        ({"a": entry(0, 8, [2.0])}, EIGHT, r"a: shape is \[2\.0\]"),
        ({"a": entry(0, 8, [2, True])}, EIGHT, r"a: shape is \[2, True\]"),
        ({"a": entry(0, 8, "2")}, EIGHT, r"a: shape is '2'"),
        ({"a": entry(0, 8, [1] * 70 + [2])}, EIGHT, r"a: shape is \[1, 1"),
        ({"a": entry(0, 0, [0, 2**62])}, b"", r"a: shape is \[0, 4611686018427387904\]"),
        ({"a": entry(0, 8, dtype="I64")}, EIGHT, r"a is stored as I64; supported are F32, F16, BF16"),
        ({"a": entry(0, 8, dtype="F8_E4M3")}, EIGHT, r"a is stored as F8_E4M3"),
        ({"a": entry(0, 8, dtype=["F32"])}, EIGHT, r"a is stored as \['F32'\]"),
        ({"a": entry(0, 8, dtype=None)}, EIGHT, r"a is stored as None"),
        ({"a": [0, 8]}, EIGHT, r"a is described by a JSON array"),
        ({"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT, r"a is stored as None"),
        ({"\x1b[2Ja": entry(4, 8)}, EIGHT, r"'\\x1b\[2Ja' begins at byte 4"),
        ({"a": entry(0, 8), "__metadata__": {"format": 1}}, EIGHT, r"__metadata__ is \{'format': 1\}"),
        ([1, 2], b"", r"header holds a JSON array, not an object"),
        (b"", b"", r"header: not valid JSON"),
        (b'{"a": \xff}', b"", r"header: byte 6 is 0xff, which is not UTF-8"),
        (b'{"a": {}, "a": {}}', b"", r"header: not valid JSON: the key 'a' stands twice"),
        (b'{"a": NaN}', b"", r"header: not valid JSON: NaN is no JSON number"),
        (b'{"\\ud800": {}}', b"", r"header: holds half a surrogate pair"),
        (NESTED, b"", r"header: more than 100 arrays and objects in one another"),
    ],
)
def test_a_header_that_lies(header, data, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        safetensors_io.index([written(tmp_path / "model.safetensors", header, data)])
    assert str(error.value).startswith(f"{tmp_path / 'model.safetensors'}")


@pytest.mark.parametrize("length", [9, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_is_longer_than_the_file(length, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" + b" " * 6)
    with pytest.raises(UserError, match="16 bytes are no safetensors file, or a truncated one"):
        safetensors_io.index([epath.Path(tmp_path / "model.safetensors")])


def test_a_header_of_an_absurd_length(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write((2**25).to_bytes(8, "little"))
        file.truncate(2**25 + 8)  # takes no room on the disk
    with pytest.raises(UserError, match=r"its header has 33,554,432 bytes; at most 16,777,216 are read"):
        safetensors_io.index([epath.Path(tmp_path / "model.safetensors")])


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_weights_at_any_offset_are_read_right(stored, tmp_path):
    """The same model with its tensors at places that no dtype's alignment holds."""
    model, params = tiny("llama_bias")
    save(tmp_path, model, jax.tree.map(lambda a: a.astype(DTYPES[stored]), params))
    file = epath.Path(tmp_path / "model.safetensors")
    header, data = {}, b""
    for name, tensor in safetensors_io.index([file]).items():
        raw = np.asarray(tensor.open()).tobytes()
        header[name] = entry(len(data), len(data) + len(raw), list(tensor.shape), stored)
        data += raw
    expected = hf.load(tmp_path)[1]
    remainders = set()
    for length in range(4):
        written(file, header, data, b" " * length)
        remainders |= {tensor.offset % 4 for tensor in safetensors_io.index([file]).values()}
        jax.tree.map(np.testing.assert_array_equal, hf.load(tmp_path)[1], expected)
    assert remainders == {0, 1, 2, 3}
