"""Numbered policies in a directory: the trainer publishes them, samplers read them; complete or not there.

A policy is one safetensors file of what trains (adapters, or all weights), under a name that holds a part of its
checksum, and a manifest that is created once and last. It says which model, tokenizer and recipe the policy is of.
"""

import contextlib
import hashlib
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from lrm_align import atomic_files
from lrm_align.errors import UserError, cannot_write
from lrm_align.models import LoraKernel, partition, safetensors_io
from lrm_align.rl import sealed

KIND = "lrm_align.policy/1"
KEEP = 3  # the newest one, and those that a sampler may still be reading
_DATA = re.compile(r"policy-(\d{8,})-[0-9a-f]{12}\.safetensors")
_CHUNK = 1 << 22


class GoneError(Exception):
    """A policy is not there: not yet, or not any more."""


class Manifest(NamedTuple):
    """What is said beside a policy.

    Attributes:
      number: of the policy.
      data: file name of the weights.
      bytes: size of that file.
      sha256: checksum of that file.
      about: {part: digest} of what the policy belongs to: model, tokenizer, tuning, recipe.
    """

    number: int
    data: str
    bytes: int
    sha256: str
    about: Mapping[str, str]


def trainable(params: Any) -> Any:
    """What trains of a step's parameters: the adapters on them, or all of them where there are none.

    The inverse of `models.lora.attach`.
    """
    layers = params["layers"]
    adapters = {
        name: {"a": leaf.a, "b": leaf.b} for name, leaf in sorted(layers.items()) if isinstance(leaf, LoraKernel)
    }
    return adapters or params


def publish(
    directory: epath.PathLike,
    number: int,
    weights: Any,
    about: Mapping[str, str],
    *,
    keep: int = KEEP,
    writes: bool = True,
    log: Callable[[str], None] = print,
) -> None:
    """Writes a policy, unless it is there; removes old ones.

    A policy that is there stays as it is, for samplers may have used it; a damaged one is written anew.

    Args:
      directory: of the policies; made if missing.
      number: of the policy.
      weights: what trains, on any devices; on several hosts every process calls this.
      about: {part: digest} of what the policy belongs to.
      keep: how many of the newest stay.
      writes: False for the processes that only take part in gathering.
      log: takes warnings.

    Raises:
      UserError: a policy of this number is of something else; or the directory cannot be written.
    """
    root = epath.Path(directory)
    place = _manifest_path(root, number)
    found = _manifest(root, number)
    if found is not None:
        _check_about(place, found, about)
        fault = _fault(root, found)
        if fault is None:
            return
        log(f"warning: {fault}; it is published anew")
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch, "policy")
        try:
            _write_file(local, weights, writes)
            if not writes:
                return
            sha256, size = _copied(local, None)
            data = f"policy-{number:08d}-{sha256[:12]}.safetensors"
            root.mkdir(parents=True, exist_ok=True)
            if found is not None:
                sealed.remove(place)
            _copied(local, root / data)
        except OSError as error:
            raise cannot_write(f"policy {number} in {root}", error) from error
    fields = {"number": number, "data": data, "bytes": size, "sha256": sha256, "about": dict(about)}
    try:
        sealed.create(place, KIND, fields)
    except sealed.TakenError:
        raise UserError(
            f"{place}: another trainer published this policy at the same time; one of them must go"
        ) from None
    _remove_before(root, number - keep + 1)


def newest(directory: epath.PathLike) -> int | None:
    """The number of the newest policy that is complete; None where there is none."""
    root = epath.Path(directory)
    for number in reversed(sealed.numbers(root)):
        if _manifest(root, number) is not None:
            return number
    return None


def read(directory: epath.PathLike, number: int, like: Any, about: Mapping[str, str]) -> Any:
    """The weights of a policy as NumPy arrays, in the structure of `like`.

    Args:
      directory: of the policies.
      number: of the policy.
      like: shapes and dtypes of what trains.
      about: what the reader has; every part must be the policy's.

    Raises:
      GoneError: there is no such policy, or it was removed meanwhile.
      UserError: it is of another model, tokenizer or recipe; or damaged.
    """
    root = epath.Path(directory)
    place = _manifest_path(root, number)
    found = _manifest(root, number)
    if found is None:
        raise GoneError(f"{place}: there is no such policy")
    _check_about(place, found, about)
    path = root / found.data
    with tempfile.TemporaryDirectory() as scratch:
        local = epath.Path(path) if atomic_files.is_local(path) else epath.Path(scratch) / "policy"
        try:
            checked = _copied(path, None if atomic_files.is_local(path) else local)
        except FileNotFoundError:
            if _manifest(root, number) is None:
                raise GoneError(f"{place}: was removed") from None
            raise UserError(f"{path}: the policy's data is missing, its manifest is there") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        if checked != (found.sha256, found.bytes):
            raise UserError(_mismatch(path, found, checked))
        return _structured(local, path, like)


def check_about(where: object, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Refuses what belongs to something else.

    Raises:
      UserError: naming the parts that differ.

    >>> check_about("policy 3", {"model": "1f", "tokenizer": "2a"}, {"model": "1f", "tokenizer": "3c"})
    Traceback (most recent call last):
    ...
    lrm_align.errors.UserError: policy 3: of another tokenizer: its tokenizer is 2a, this job's is 3c
    """
    parts = [part for part in sorted({*theirs, *ours}) if theirs.get(part) != ours.get(part)]
    if parts:
        told = ", ".join(f"its {part} is {theirs.get(part)}, this job's is {ours.get(part)}" for part in parts)
        raise UserError(f"{where}: of another {' and another '.join(parts)}: {told}")


def _check_about(place: epath.Path, found: Manifest, about: Mapping[str, str]) -> None:
    check_about(place, found.about, about)


def _manifest_path(root: epath.Path, number: int) -> epath.Path:
    return root / sealed.name(number)


def _manifest(root: epath.Path, number: int) -> Manifest | None:
    place = _manifest_path(root, number)
    fields = sealed.read(place, KIND)
    if fields is None:
        return None
    sound = (
        fields.keys() == set(Manifest._fields)
        and fields["number"] == number
        and isinstance(fields["about"], dict)
        # The data lies beside its manifest: a name from a stranger must not lead elsewhere.
        and fields["data"] == f"policy-{number:08d}-{str(fields['sha256'])[:12]}.safetensors"
        and _DATA.fullmatch(fields["data"]) is not None
    )
    if not sound:
        raise UserError(f"{place}: manifest whose fields contradict each other")
    return Manifest(**fields)


def _fault(root: epath.Path, found: Manifest) -> str | None:
    """What is wrong with the data of a policy; None where it is sound."""
    path = root / found.data
    try:
        checked = _copied(path, None)
    except FileNotFoundError:
        return f"{path}: the policy's data is missing"
    return None if checked == (found.sha256, found.bytes) else _mismatch(path, found, checked)


def _mismatch(path: epath.Path, found: Manifest, checked: tuple[str, int]) -> str:
    if checked[1] != found.bytes:
        return f"{path}: truncated or foreign: {checked[1]} bytes, its manifest says {found.bytes}"
    return f"{path}: damaged or foreign: its checksum is not the manifest's"


def _copied(source: epath.Path | Path, target: epath.Path | Path | None) -> tuple[str, int]:
    """(sha256, bytes) of a file, copied on the way where there is a target."""
    digest, size = hashlib.sha256(), 0
    writing = contextlib.nullcontext() if target is None else atomic_files.writing(target)
    with epath.Path(source).open("rb") as file, writing as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if copy is not None:
                copy.write(chunk)
    return digest.hexdigest(), size


def _write_file(path: Path, weights: Any, writes: bool) -> None:
    """All leaves as one safetensors file, one in memory at a time."""
    tensors = [
        safetensors_io.NewTensor(name, np.dtype(leaf.dtype), tuple(leaf.shape), _reader(leaf))
        for name, leaf in _flat(weights).items()
    ]
    if writes:
        safetensors_io.write(epath.Path(path), tensors)
        return
    for tensor in tensors:
        tensor.read()  # takes part in gathering it


def _reader(leaf: Any) -> Callable[[], np.ndarray]:
    return lambda: partition.on_host(leaf)


def _structured(local: epath.Path, path: epath.Path, like: Any) -> Any:
    wanted = _flat(like)
    stored = safetensors_io.index([local])
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in stored.items()}
    expected = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in wanted.items()}
    if shapes != expected:
        odd = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))[0]
        raise UserError(
            f"{path}: {odd} is {shapes.get(odd)} there and {expected.get(odd)} here; another tuning wrote it"
        )
    arrays = [np.array(stored[name].open()) for name in wanted]  # copies: the file may be removed
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def _flat(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if not flat or any(math.prod(leaf.shape) == 0 for leaf in flat.values()):
        raise ValueError("a policy without weights")
    return flat


def _remove_before(root: epath.Path, first: int) -> None:
    """Removes policies of lower numbers, manifests first: from then on they are not there."""
    for number in sealed.numbers(root):
        if number < first:
            sealed.remove(_manifest_path(root, number))
    for path in list(root.iterdir()):
        match = _DATA.fullmatch(path.name)
        if match and int(match[1]) < first:
            sealed.remove(path)
