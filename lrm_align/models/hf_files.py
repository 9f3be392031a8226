"""Finds a Hugging Face model directory and what lies in it; whoever made it is a stranger."""

import hashlib
import os
import pathlib
import re
from typing import Any

from etils import epath
from huggingface_hub import errors, snapshot_download

from lrm_align import stamps, untrusted
from lrm_align.errors import UserError, one_line
from lrm_align.models import exports, safetensors_io
from lrm_align.models.safetensors_io import StoredTensor

_ENDS = 1 << 20
CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER = (
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
# What a tokenizer and a generation loop need beside the weights; copied on export.
COMPANIONS = ("generation_config.json", *TOKENIZER)
_SHARD = re.compile(r"\w[\w .+-]{0,250}\.safetensors")


def resolve(path_or_hub_id: str | epath.PathLike) -> epath.Path:
    """The directory of a model: the path itself, a run's last export, or the snapshot of a hub id, fetched if need be.

    Raises:
      UserError: neither a directory with a config.json nor a hub id that can be had; adapters without their model; a
        directory, FIFO or device in the place of one of the files; an export of a run that is not what it was when the
        run wrote it.
    """
    directory = _local_directory(path_or_hub_id)
    if directory is None:
        directory = _snapshot(str(path_or_hub_id))
    if (directory / ADAPTER_CONFIG).is_file():
        if (directory / SINGLE).is_file() or (directory / INDEX).is_file():
            raise UserError(
                f"{directory}: holds a model and PEFT adapters ({ADAPTER_CONFIG}); move one of the two elsewhere, so "
                "that it is clear whether the adapters are meant to act"
            )
        base = untrusted.read_object(directory / ADAPTER_CONFIG).get("base_model_name_or_path")
        of = f" of the model {untrusted.shown(base)}" if base else ""
        raise UserError(
            f"{directory}: holds PEFT adapters{of}, not a model; merge them: "
            f"python -m lrm_align.merge {directory} NEW_DIRECTORY"
        )
    _check_kinds(directory)
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory}: this directory holds no config.json; a Hugging Face model directory does")
    stamps.verify_model(directory)
    return directory


def _local_directory(path_or_hub_id: str | epath.PathLike) -> epath.Path | None:
    """The path where it is a directory; None where it may be a hub id.

    Raises:
      UserError: neither can be.
    """
    name = os.fspath(path_or_hub_id)
    if "\0" not in name and len(name) < 4096:  # longer and other names make the file system fail
        path = exports.named(epath.Path(name).expanduser())
        if path.is_dir():
            return path
        if not path.exists() and re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
            return None
    raise UserError(
        f"{untrusted.named(name)}: no such model directory; "
        "give a Hugging Face directory or a hub id like Qwen/Qwen3-0.6B"
    )


def _snapshot(hub_id: str) -> epath.Path:
    """The local snapshot of a hub id, fetched if need be.

    Raises:
      UserError: the hub does not give it.
    """
    patterns = [CONFIG, ADAPTER_CONFIG, "*.safetensors", INDEX, *COMPANIONS]
    try:
        return epath.Path(snapshot_download(hub_id, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"]))
    # The hub's client raises OSErrors for the network, the server and the offline cache, ValueErrors for malformed ids.
    except (OSError, ValueError, errors.EntryNotFoundError) as error:
        reason = one_line(str(error).strip().partition("\n")[0] or type(error).__name__)
        raise UserError(f"{hub_id}: no such directory, and the hub does not give it: {reason}") from error


def _check_kinds(directory: epath.Path) -> None:
    """Refuses what only looks like a file: other libraries would open it, and a FIFO keeps them waiting for ever."""
    if "://" not in str(directory):
        for name in (CONFIG, SINGLE, INDEX, *COMPANIONS):
            if os.path.lexists(directory / name):
                untrusted.open_file(directory / name).close()


def tensors(directory: epath.Path) -> dict[str, StoredTensor]:
    """Where each tensor of a model directory lies, from the headers of its files.

    Raises:
      UserError: as `weight_files` and `safetensors_io.index`, or an index that places a tensor where it is not.
    """
    stored = safetensors_io.index(weight_files(directory))
    for name, file in _weight_map(directory).items():
        if name not in stored or stored[name].path.name != file:
            raise UserError(f"{directory / INDEX}: places {untrusted.shown(name)} in {file}, which does not hold it")
    return stored


def weight_files(directory: epath.Path) -> list[epath.Path]:
    """The safetensors files of a model directory: the single file, or those that the index names.

    Raises:
      UserError: there are none, or the index is damaged or leads out of the directory.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    weight_map = _weight_map(directory)
    if weight_map:
        return [_inside(directory, name) for name in sorted(set(weight_map.values()))]
    others = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf"))
    if others:
        raise UserError(
            f"{directory}: holds {', '.join(others[:3])} but no {SINGLE}; only safetensors are read, since pickled "
            "weights can run code: convert them with transformers' save_pretrained"
        )
    raise UserError(f"{directory}: holds no weights; expected {SINGLE} or {INDEX}")


def _weight_map(directory: epath.Path) -> dict[str, str]:
    """{tensor: file} of a directory's index; empty where the weights are a single file, or none."""
    path = directory / INDEX
    if (directory / SINGLE).is_file() or not path.is_file():
        return {}
    found = untrusted.read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: has no weight_map, an object that names the file of each tensor")
    for name, file in found.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise UserError(
                f"{path}: the file of {untrusted.shown(name)} is {untrusted.shown(file)}; expected the plain name of a "
                ".safetensors file in the same directory"
            )
    return found


def _inside(directory: epath.Path, name: str) -> epath.Path:
    """A file of the directory; a link may only lead to where the hub's cache keeps the contents of its snapshots."""
    path = directory / name
    if "://" not in str(directory) and pathlib.Path(path).is_symlink():
        homes = [os.path.realpath(directory)]
        if directory.parent.name == "snapshots":
            homes.append(os.path.realpath(directory.parent.parent / "blobs"))
        target = os.path.realpath(path)
        if str(pathlib.Path(target).parent) not in homes:
            raise UserError(f"{path}: is a link out of the directory, to {target}; copy the file there instead")
    if not path.is_file():
        raise UserError(f"{path}: no such file, though the model's index names it")
    return path


def fingerprint(directory: epath.Path) -> dict[str, Any]:
    """What tells one model from another: its config, the files of its tokenizer, template and ends of answers, and each
    weight file's size, first and last mebibyte.

    Whole weights are not hashed: that takes minutes on every start.
    """
    found: dict[str, Any] = {"config": untrusted.read_object(directory / CONFIG)}
    for name in COMPANIONS:
        if (directory / name).is_file():
            found[name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    for file in weight_files(directory):
        size = file.stat().length
        with file.open("rb") as data:
            head = data.read(_ENDS)
            data.seek(max(size - _ENDS, 0))
            found[file.name] = [size, hashlib.sha256(head + data.read()).hexdigest()]
    return found
