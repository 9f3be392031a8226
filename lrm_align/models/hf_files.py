"""Finds a Hugging Face model directory and what lies in it."""

import hashlib
import json
import re
from typing import Any

from etils import epath
from huggingface_hub import errors, snapshot_download

from lrm_align.errors import UserError

_ENDS = 1 << 20
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What a tokenizer and a generation loop need beside the weights; copied on export.
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def resolve(path_or_hub_id: str | epath.PathLike) -> epath.Path:
    """The directory of a model: the path itself, or the local snapshot of a hub id, fetched if need be.

    Raises:
      UserError: neither a directory with a config.json nor a hub id that can be had.
    """
    path = epath.Path(path_or_hub_id)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: this directory holds no config.json; a Hugging Face model directory does")
        return path
    name = str(path_or_hub_id)
    if path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith((".", "/")):
        raise UserError(
            f"{name}: no such model directory; give a Hugging Face directory or a hub id like Qwen/Qwen3-0.6B"
        )
    patterns = ["config.json", "*.safetensors", INDEX, *COMPANIONS]
    try:
        return epath.Path(snapshot_download(name, allow_patterns=patterns))
    # The hub's client raises OSErrors for the network, the server and the offline cache, ValueErrors for malformed ids.
    except (OSError, ValueError, errors.EntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: no such directory, and the hub does not give it: {reason}") from error


def read_json(path: epath.Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      UserError: no such file, or not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a JSON {type(value).__name__}, not an object")
    return value


def weight_files(directory: epath.Path) -> list[epath.Path]:
    """The safetensors files of a model directory: the single file, or those that the index names.

    Raises:
      UserError: there are none, or the index is damaged.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if (directory / INDEX).is_file():
        files = read_json(directory / INDEX).get("weight_map")
        if not isinstance(files, dict) or not files:
            raise UserError(f"{directory / INDEX}: has no weight_map")
        return [directory / name for name in sorted(set(files.values()))]
    others = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf"))
    if others:
        raise UserError(
            f"{directory}: holds {', '.join(others[:3])} but no {SINGLE}; only safetensors are read, since pickled "
            "weights can run code: convert them with transformers' save_pretrained"
        )
    raise UserError(f"{directory}: holds no weights; expected {SINGLE} or {INDEX}")


def fingerprint(directory: epath.Path) -> dict[str, Any]:
    """What tells one model from another: its config, and each weight file's size, first and last mebibyte.

    Whole weights are not hashed: that takes minutes on every start.
    """
    found: dict[str, Any] = {"config": read_json(directory / "config.json")}
    for file in weight_files(directory):
        size = file.stat().length
        with file.open("rb") as data:
            head = data.read(_ENDS)
            data.seek(max(size - _ENDS, 0))
            found[file.name] = [size, hashlib.sha256(head + data.read()).hexdigest()]
    return found
