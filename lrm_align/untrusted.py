"""Files that strangers wrote: read whole up to a size, from regular files only, and as JSON without its loopholes.

What Python's `json` lets through is refused here, because every reader settles it in another way: a key that stands
twice, NaN and Infinity, numbers beyond float64, lone surrogates (RFC 8259, sections 4, 6 and 8.2), and nesting without
end. What comes back can be written, printed and hashed again.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import IO, Any

from etils import epath

from lrm_align.errors import UserError, one_line

MEBIBYTE = 1 << 20
LARGEST = 16 * MEBIBYTE  # An index.json of 90,000 tensors has 9 MiB; a tokenizer.json of 250,000 entries has 33.
DEEPEST = 100  # Rust's serde_json, which reads the same files, stops at 128.
_LONGEST_NUMBER = 300  # digits, so that every integer has a float64
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_PLAIN = re.compile(r"[\w./:@~ +-]{1,500}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def open_file(path: epath.PathLike) -> IO[bytes]:
    """A regular file, or an object of a bucket, open for reading.

    A FIFO or a device, which may keep its reader waiting or never end, is not read.

    Raises:
      UserError: no such file, a directory, no regular file, or one that cannot be read.
    """
    place = epath.Path(path)
    try:
        if "://" in os.fspath(place):
            if not place.is_file():
                raise UserError(f"{place}: no such file")
            return place.open("rb")
        # Whoever opens a FIFO waits for its writer, unless told not to.
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"{place}: no such file") from None
    except (OSError, ValueError) as error:  # a ValueError: a name that holds a null character
        raise _unreadable(place, error) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
    raise UserError(f"{place}: {kind}, where a regular file is expected")


def read_bytes(path: epath.PathLike, limit: int = LARGEST) -> bytes:
    """The bytes of a file.

    Raises:
      UserError: as `open_file`, or more than `limit` bytes.
    """
    with open_file(path) as file:
        try:
            # Asked first where there is an answer: what is said to be a terabyte is not read up to the limit.
            longer = "://" not in os.fspath(path) and os.fstat(file.fileno()).st_size > limit
            content = b"" if longer else file.read(limit + 1)
        except OSError as error:
            raise _unreadable(path, error) from None
    if longer or len(content) > limit:
        raise UserError(f"{path}: longer than {limit / MEBIBYTE:g} MiB, more than such a file ever has")
    return content


def read_text(path: epath.PathLike, limit: int = LARGEST) -> str:
    """The text of a regular UTF-8 file.

    Raises:
      UserError: as `read_bytes`, or bytes that are not UTF-8.
    """
    return _decoded(read_bytes(path, limit), str(path))


def read_json(path: epath.PathLike, limit: int = LARGEST) -> Any:
    """The JSON value of a file.

    Raises:
      UserError: as `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path, limit), str(path))


def read_object(path: epath.PathLike, limit: int = LARGEST) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
      UserError: as `read_json`, or another value than an object.
    """
    value = read_json(path, limit)
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a JSON {json_type(value)}, not an object")
    return value


def parse_json(text: bytes | str, where: str) -> Any:
    """A JSON value, read strictly.

    Args:
      text: the whole of it; bytes are UTF-8.
      where: begins the message of a mistake, "FILE" or "FILE, line 3".

    Raises:
      UserError: no JSON, a key that stands twice in one object, NaN, Infinity or a number that no float64 holds, a lone
        surrogate, or more than `DEEPEST` arrays and objects in one another.

    >>> parse_json('{"a": [1, 2.5, null]}', "config.json")
    {'a': [1, 2.5, None]}
    >>> parse_json('{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
      ...
    lrm_align.errors.UserError: config.json: not valid JSON: the key 'a' stands twice in one object
    """
    if isinstance(text, bytes):
        text = _decoded(text, where)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
        deep = _deeper_than(value, DEEPEST)
    except RecursionError:
        deep = True
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {one_line(error)}") from None
    if deep:
        raise UserError(f"{where}: more than {DEEPEST} arrays and objects in one another")
    if _SURROGATE.search(text) and not _is_unicode(value):
        raise UserError(f"{where}: holds half a surrogate pair (\\ud800 to \\udfff alone), which is no character")
    return value


class Fields:
    """The fields of a stranger's JSON object, each of one type and within its range; null counts as absent.

    Args:
      fields: the object.
      where: begins the message of a mistake.

    >>> fields = Fields({"width": 64, "tied": "yes"}, "config.json")
    >>> fields.integer("width", 1, 4096), fields.integer("depth", 1, 64, 2)
    (64, 2)
    >>> fields.boolean("tied", False)
    Traceback (most recent call last):
      ...
    lrm_align.errors.UserError: config.json: tied is 'yes'; expected true or false
    """

    def __init__(self, fields: Mapping[str, Any], where: str):
        self._fields, self._where = fields, where

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number; without a default it must be there.

        Raises:
          UserError: another type, out of range, or missing.
        """
        expected = f"a whole number from {low:,} to {high:,}"
        return self._checked(name, default, lambda value: _is_integer(value) and low <= value <= high, expected)

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A number, as a float; without a default it must be there.

        Raises:
          UserError: another type, out of range, or missing.
        """
        right = lambda value: (_is_integer(value) or isinstance(value, float)) and low <= value <= high  # noqa: E731
        return float(self._checked(name, default, right, f"a number from {low:g} to {high:g}"))

    def boolean(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
          UserError: another type.
        """
        return self._checked(name, default, lambda value: isinstance(value, bool), "true or false")

    def text(self, name: str, default: str) -> str:
        """A string.

        Raises:
          UserError: another type.
        """
        return self._checked(name, default, lambda value: isinstance(value, str), "text")

    def mapping(self, name: str) -> dict[str, Any]:
        """An object; {} where it is absent.

        Raises:
          UserError: another type.
        """
        return dict(self._checked(name, {}, lambda value: isinstance(value, Mapping), "an object"))

    def _checked(self, name: str, default: Any, right: Callable[[Any], bool], expected: str) -> Any:
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        if not right(value):
            found = "is missing" if value is None else f"is {shown(value)}"
            raise UserError(f"{self._where}: {name} {found}; expected {expected}")
        return value


def json_type(value: Any) -> str:
    """The name that JSON gives to a value's type.

    >>> json_type([]), json_type(True), json_type(None)
    ('array', 'boolean', 'null')
    """
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def shown(value: Any, length: int = 80) -> str:
    """A stranger's value in a message: one line, nothing in it that a terminal obeys, no longer than `length`.

    >>> shown("\\x1b[2Jgone"), shown([1] * 100, 12)
    ("'\\\\x1b[2Jgone'", '[1, 1, 1, 1…')
    """
    text = repr(value) if isinstance(value, str | int | float | list | dict | None) else repr(str(value))
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def named(name: Any) -> str:
    """A name or path in a message: as it is where it is plain, as `shown` otherwise.

    >>> named("model.norm.weight"), named("a\\nb")
    ('model.norm.weight', "'a\\\\nb'")
    """
    return name if isinstance(name, str) and _PLAIN.fullmatch(name) else shown(name)


def _unreadable(path: epath.PathLike, error: Exception) -> UserError:
    return UserError(f"{named(str(path))}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: byte {error.start} is 0x{content[error.start]:02x}, which is not UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return found


def _constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond the range of float64")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"an integer of {len(text)} digits is beyond the range of float64")
    return int(text)


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
