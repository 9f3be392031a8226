"""Checkpoints of a run: written in the background by Orbax, checked when they are read."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from lrm_align.errors import UserError, one_line
from lrm_align.training.state import State

# What Orbax and TensorStore raise for files that are cut, missing or unreadable.
_DAMAGE = (ValueError, OSError, KeyError, jax.errors.JaxRuntimeError)


class DamagedError(Exception):
    """A checkpoint reads back other numbers than were written."""


class Checkpoints:
    """The checkpoints of one run, the newest few of them.

    A checkpoint holds weights (or adapters), the optimizer's state, the step and the PRNG key, all under their paths;
    who they belong to; and a sum over the bits of each array, taken on the device before writing.

    Args:
      directory: of the checkpoints; made if missing.
      identity: plain values that tell this model from others; a checkpoint with other ones is refused.
      keep: how many stay.
      log: takes warnings.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        identity: Mapping[str, Any],
        keep: int = 2,
        log: Callable[[str], None] = print,
    ):
        self._identity, self._log = json.loads(json.dumps(identity)), log  # as JSON gives it back
        self._directory = epath.Path(directory).absolute() if "://" not in str(directory) else epath.Path(directory)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, state: State) -> None:
        """Starts writing a checkpoint; the state may be donated as soon as this returns."""
        arrays = _flat(state)
        about = {"identity": self._identity, "checksums": _checksums(arrays)}
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about)),
            force=True,
        )

    def restore(self, like: State, shardings: State) -> State | None:
        """The newest good checkpoint, bit for bit; None where there is none at all.

        A damaged one is named, skipped and removed, so that the run can write it anew.

        Args:
          like: shapes of the state.
          shardings: where its arrays shall lie, on whatever mesh.

        Raises:
          UserError: a checkpoint of another model, or none that can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            try:
                arrays = self._read(step, like, shardings)
            except (*_DAMAGE, DamagedError) as error:
                damaged.append(step)
                self._log(f"warning: checkpoint {self._directory / str(step)} is damaged ({_short(error)}); skipped")
                continue
            for bad in damaged:
                self._manager.delete(bad)
            return _unflat(arrays, like)
        if damaged:
            raise UserError(
                f"no checkpoint in {self._directory} can be read (steps {', '.join(map(str, steps))}); "
                "remove the directory to start over"
            )
        return None

    def _read(self, step: int, like: State, shardings: State) -> dict[str, jax.Array]:
        about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        if about["identity"] != self._identity:
            difference = _difference(about["identity"], self._identity)
            raise UserError(
                f"checkpoint {self._directory / str(step)} is of another model: {difference}; "
                "give another workdir, or the model it belongs to"
            )
        wanted = _flat(like)
        where = _flat(shardings)
        abstract = {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where[name]) for name, a in wanted.items()}
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        arrays = self._manager.restore(step, args=arguments)["state"]
        found = _checksums(arrays)
        if found != about["checksums"]:
            names = [name for name in found if found[name] != about["checksums"].get(name)]
            raise DamagedError(f"{', '.join(names[:3])} changed on the way")
        return arrays

    def wait(self) -> None:
        """Until everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends."""
        self._manager.wait_until_finished()
        self._manager.close()


def identity_of(config: Any, state: State, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a checkpoint belongs to: the model's config, the shapes of what trains, and what the caller adds."""
    shapes = {name: [*a.shape] for name, a in _flat(state).items() if name.startswith("trainable")}
    return {"model": config.to_hf(), "shapes": shapes, "more": dict(more or {})}


def _flat(state: State) -> dict[str, Any]:
    """{path: leaf}; the PRNG key as its numbers."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state._replace(key=_key_data(state.key)))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _key_data(key: Any) -> Any:
    if isinstance(key, jax.sharding.Sharding):
        return key
    if isinstance(key, jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, key)
    return jax.random.key_data(key)


def _unflat(arrays: Mapping[str, jax.Array], like: State) -> State:
    names = list(_flat(like))
    structure = jax.tree.structure(like)
    state = jax.tree.unflatten(structure, [arrays[name] for name in names])
    return state._replace(key=jax.random.wrap_key_data(state.key))


@jax.jit
def _bits(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Sum over the bits of each array modulo 2³²: the same on every topology, other for any flipped bit."""

    def one(a: jax.Array) -> jax.Array:
        unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[a.dtype.itemsize]
        return jnp.sum(jax.lax.bitcast_convert_type(a, unsigned), dtype=jnp.uint32)

    return {name: one(a) for name, a in arrays.items()}


def _checksums(arrays: dict[str, jax.Array]) -> dict[str, int]:
    return {name: int(value) for name, value in jax.device_get(_bits(arrays)).items()}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> str:
    """The first value that differs, with its name."""
    for name in sorted(set(found) | set(wanted)):
        a, b = found.get(name), wanted.get(name)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return _difference(a, b, f"{prefix}{name}.")
        return f"{prefix}{name} is {a!r} there and {b!r} here"
    return "nothing differs"


def _short(error: Exception) -> str:
    text = one_line(error)
    return f"{type(error).__name__}: {text[:160]}{'…' if len(text) > 160 else ''}"
