"""Log-probabilities of the reference, computed once for all tokens of a store, and kept under what they depend on."""

import hashlib
import json
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lrm_align import atomic_files
from lrm_align.batch import Batch
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.models import Model, safetensors_io
from lrm_align.progress import Progress
from lrm_align.provenance import Source
from lrm_align.traces import Loader, Plan, TokenStore
from lrm_align.training import sharding
from lrm_align.training.scores import batch_scores

FORMAT = "lrm_align.reference/1"
_TENSOR = "ref_logp"


def logp(
    model: Model,
    params: object,
    store: TokenStore,
    mesh: jax.sharding.Mesh,
    *,
    row_length: int,
    rows: int,
    chunk: int | None = 512,
    temperature: float = 1.0,
    title: str = "  reference",
) -> np.ndarray:
    """(tokens,) float32 log-probability of every token of a store given the earlier ones of its trace.

    Traces are packed into rows of the training's length and run through once, without adapters. Tokens beyond a row's
    length are NaN: no plan of that row length trains on them. A trace's first token reads 0.

    Args:
      model: static.
      params: of the reference.
      store: the traces.
      mesh: where the parameters lie.
      row_length: tokens in a row.
      rows: rows at a time, a multiple of the mesh's batch axes.
      chunk: positions whose logits are in memory at a time.
      temperature: divides the logits, as in the training that will read these.
      title: stands before the progress.
    """
    plan = Plan(store.lengths, row_length=row_length, seed=0, batch_rows=rows, overlong="truncate")
    loader = Loader(store, plan, train_sources=tuple(Source), **sharding.share(mesh, model.rules)._asdict())
    everywhere = Loader(store, plan, train_sources=tuple(Source))

    def score(params: object, batch: Batch) -> jax.Array:
        return batch_scores(model, params, None, batch, frozenset({"logp"}), chunk, temperature)["logp"]

    where = sharding.frozen_shardings(params, mesh, model.rules)
    params = jax.tree.map(sharding.put, params, where)
    together = NamedSharding(mesh, P())
    inputs = (where, sharding.batch_sharding(mesh, model.rules))
    scored = jax.jit(score, in_shardings=inputs, out_shardings=together)
    values = np.full(store.tokens.size, np.nan, np.float32)
    with jax.set_mesh(mesh), Progress(title, len(loader), unit="batches") as progress:
        for step, batch in enumerate(loader.steps()):
            found = scored(params, sharding.global_batch(batch, mesh, model.rules))
            in_store, in_rows = everywhere.positions(step)
            values[in_store] = np.asarray(found).reshape(-1)[in_rows]
            progress.add()
    return values


def identity(model: object, store: TokenStore, template: object, compute: Mapping[str, object]) -> dict[str, str]:
    """What stored log-probabilities depend on, each part as a hash.

    Args:
      model: what tells the reference from others.
      store: the traces.
      template: chat template and what it was given; plain values.
      compute: dtypes and temperature.
    """
    data = hashlib.sha256(np.ascontiguousarray(store.tokens, "<i4").tobytes())
    data.update(np.ascontiguousarray(store.offsets, "<i8").tobytes())
    return {**model_identity(model, template, compute), "data": data.hexdigest()[:16]}


def model_identity(model: object, template: object, compute: Mapping[str, object]) -> dict[str, str]:
    """The parts of `identity` that are known before there is any data."""
    return {"model": digest(model), "template": digest(template), "compute": digest(dict(compute))}


def exists(directory: epath.PathLike, about: Mapping[str, str]) -> bool:
    """Whether log-probabilities of exactly this reference are stored there.

    Args:
      directory: where they would lie.
      about: of `identity`; of its parts alone, to find out early whether what lies there is stale.

    Raises:
      UserError: those of another one are, which are stale; or a damaged manifest.
    """
    root = epath.Path(directory)
    if not root.exists():
        return False
    manifests = sorted(path for path in root.iterdir() if path.name.startswith("reference-") and path.suffix == ".json")
    read = {path: found["identity"] for path in manifests if (found := _manifest(path)) is not None}
    changed = {path: [part for part in about if found.get(part) != about[part]] for path, found in read.items()}
    if not read or not all(changed.values()):
        return bool(read)
    path = next(iter(changed))
    raise UserError(
        f"{path}: stale reference log-probabilities: the {' and the '.join(changed[path])} changed since they were "
        "computed; remove them, or name another directory"
    )


def write(directory: epath.PathLike, values: np.ndarray, about: Mapping[str, str]) -> None:
    """Stores log-probabilities: the data first, the manifest last and only once.

    Raises:
      UserError: they are there already.
    """
    root = epath.Path(directory)
    name = _name(about)
    manifest, data = root / f"{name}.json", root / f"{name}.safetensors"
    if manifest.exists() and _manifest(manifest) is not None:
        raise UserError(f"{manifest}: these reference log-probabilities are there already, and are never overwritten")
    root.mkdir(parents=True, exist_ok=True)
    values = np.ascontiguousarray(values, np.float32)
    tensor = safetensors_io.NewTensor(_TENSOR, np.dtype(np.float32), values.shape, lambda: values)
    safetensors_io.write(data, [tensor])
    fields = {"format": FORMAT, "identity": dict(about), "tokens": values.size, "sha256": _checksum(values)}
    atomic_files.write_text(manifest, json.dumps(fields) + "\n")


def read(directory: epath.PathLike, about: Mapping[str, str]) -> np.ndarray:
    """(tokens,) float32, checked.

    Raises:
      UserError: none are stored there, or those of another reference, or damaged ones.
    """
    if not exists(directory, about):
        raise UserError(f"{epath.Path(directory)}: no reference log-probabilities are stored here")
    root, name = epath.Path(directory), _name(about)
    tensors = safetensors_io.index([root / f"{name}.safetensors"])
    if _TENSOR not in tensors:
        raise UserError(f"{root / name}.safetensors: holds no {_TENSOR}; it is foreign")
    values = np.array(tensors[_TENSOR].open(), np.float32)
    manifest = _manifest(root / f"{name}.json")
    if manifest is None or (values.size, _checksum(values)) != (manifest["tokens"], manifest["sha256"]):
        raise UserError(f"{root / name}.safetensors: damaged or foreign: its checksum is not the manifest's")
    return values


def _name(about: Mapping[str, str]) -> str:
    return f"reference-{digest(dict(about))[:12]}"


def _manifest(path: epath.Path) -> dict | None:
    """A manifest; None for one that a killed writer left cut.

    Raises:
      UserError: it is whole, and none of ours.
    """
    text = path.read_text()
    if not text.endswith("}\n"):
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged manifest: not JSON") from None
    sound = isinstance(fields, dict) and fields.get("format") == FORMAT and isinstance(fields.get("identity"), dict)
    if not sound or not {"tokens", "sha256"} <= fields.keys():
        raise UserError(f"{path}: not a manifest of reference log-probabilities of this version (format {FORMAT})")
    return fields


def _checksum(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
