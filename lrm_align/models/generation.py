"""Where a model's answers end: `eos_token_id` of generation_config.json and config.json, read and written."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from lrm_align import untrusted
from lrm_align.errors import UserError

FILE = "generation_config.json"
_FIELD = "eos_token_id"
_IDS = ("bos_token_id", _FIELD, "pad_token_id")


def eos_ids(fields: Mapping[str, Any], where: str) -> list[int]:
    """The ids that end an answer, by one of the two files: one id, a list of ids, or none.

    Raises:
      UserError: anything else.

    >>> eos_ids({"eos_token_id": [7, 9]}, "config.json"), eos_ids({"eos_token_id": 7}, "config.json")
    ([7, 9], [7])
    """
    value = fields.get(_FIELD)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in ids):
        raise UserError(f"{where}: {_FIELD} is {untrusted.shown(value)}; expected a token id, or a list of them")
    return ids


def directory_eos_ids(directory: epath.PathLike) -> list[int]:
    """The ids that end an answer by a directory's generation_config.json; [] without the file.

    Raises:
      UserError: the file is damaged.
    """
    path = epath.Path(directory) / FILE
    return eos_ids(untrusted.read_object(path), str(path)) if path.is_file() else []


def with_end(fields: Mapping[str, Any], end: int, where: str) -> dict[str, Any]:
    """The fields of one of the two files with one more end; what stands there keeps its place.

    >>> with_end({"eos_token_id": 7, "do_sample": True}, 9, "config.json")
    {'eos_token_id': [7, 9], 'do_sample': True}
    >>> with_end({"eos_token_id": [9, 7]}, 7, "config.json"), with_end({}, 7, "config.json")
    ({'eos_token_id': [9, 7]}, {'eos_token_id': 7})
    """
    ids = eos_ids(fields, where)
    return dict(fields) if end in ids else {**fields, _FIELD: [*ids, end] if ids else end}


def exported(directory: epath.Path | None, config: Mapping[str, Any], end: int) -> dict[str, Any]:
    """The generation_config.json of an export whose trained turns end with `end`.

    Without the file, generation goes by the ids in config.json; they are taken over, since the new file hides them.

    Args:
      directory: of the model that was trained.
      config: the fields of its config.json.
      end: id of the token.
    """
    path = None if directory is None else directory / FILE
    if path is not None and path.is_file():
        return with_end(untrusted.read_object(path), end, str(path))
    return with_end({name: config[name] for name in _IDS if config.get(name) is not None}, end, "config.json")
