"""Checkpoints of a run: written in the background by Orbax, checked when they are read."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from lrm_align import processes, stopping
from lrm_align.errors import CannotWriteError, UserError, cannot_write, one_line
from lrm_align.training.quiet import SYSTEM_ERROR, quiet
from lrm_align.training.state import State

# What Orbax and TensorStore raise for files that are cut, missing or unreadable.
_DAMAGE = (ValueError, OSError, KeyError, jax.errors.JaxRuntimeError)
_GOES_ON = "the one before it is good, and the same command goes on from there"


class DamagedError(Exception):
    """A checkpoint reads back other numbers than were written."""


class Checkpoints:
    """The checkpoints of one run, the newest few of them.

    A checkpoint holds weights (or adapters), the optimizer's state, the step and the PRNG key, all under their paths;
    who they belong to; a sum over the bits of each array, taken on the device before writing; and what the reporter has
    gathered since its last row.

    Args:
      directory: of the checkpoints; made if missing.
      identity: plain values that tell this model from others; a checkpoint with other ones is refused.
      keep: how many stay.
      log: takes warnings.

    Attributes:
      report: what `save` was given with the checkpoint that was restored; None without one.
    """

    report: dict[str, Any] | None = None

    def __init__(
        self,
        directory: epath.PathLike,
        identity: Mapping[str, Any],
        keep: int = 2,
        log: Callable[[str], None] = print,
    ):
        self._identity, self._log = json.loads(json.dumps(identity)), log  # as JSON gives it back
        self._directory = epath.Path(directory).absolute() if "://" not in str(directory) else epath.Path(directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=True, cleanup_tmp_directories=True
        )
        self._writing: int | None = None  # the step whose checkpoint is under way
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(quiet())
        with _disk_at(self._directory):
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, state: State, report: Mapping[str, Any] | None = None) -> None:
        """Starts writing a checkpoint; the state may be donated as soon as this returns.

        Args:
          state: of the run.
          report: plain values that come back with it.

        Raises:
          CannotWriteError: the checkpoint before this one, or the beginning of this one, could not be written.
        """
        self.wait()
        arrays = _flat(state)
        about = {"identity": self._identity, "checksums": _checksums(arrays), "report": report}
        self._writing = int(state.step)
        with _disk_at(self._directory / str(self._writing)):
            self._manager.save(
                self._writing,
                args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about)),
                force=True,
            )

    def check(self) -> None:
        """Looks whether the checkpoint that is under way has failed; waits for nothing.

        Raises:
          CannotWriteError: it has.
        """
        if self._writing is not None and not self._manager.is_saving_in_progress():
            self.wait()

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
                arrays, report = self._read_together(step, like, shardings)
            except (*_DAMAGE, DamagedError) as error:
                damaged.append(step)
                self._log(f"warning: checkpoint {self._directory / str(step)} is damaged ({_short(error)}); skipped")
                continue
            for bad in damaged:
                self._manager.delete(bad)
            self.report = report
            return _unflat(arrays, like)
        if damaged:
            raise UserError(
                f"no checkpoint in {self._directory} can be read (steps {', '.join(map(str, steps))}); "
                "remove the directory to start over"
            )
        return None

    def _read_together(self, step: int, like: State, shardings: State) -> tuple[dict[str, jax.Array], Any]:
        """The arrays of a checkpoint that every process could read, with the numbers that were written; the report."""
        read, error = None, None
        try:
            # Orbax reads in an event loop, which would hand on, repeat or swallow what is raised in its midst.
            with stopping.deferred("the checkpoint that is read"):
                read = self._read(step, like, shardings)
        except _DAMAGE as damage:
            error = damage
        whole = processes.everyone(f"checkpoint {step}", read is not None)
        if error is not None:
            raise error
        if read is None or not whole:
            raise DamagedError("another process cannot read it")
        arrays, about = read
        found = _checksums(arrays)
        if found != about["checksums"]:
            names = [name for name in found if found[name] != about["checksums"].get(name)]
            raise DamagedError(f"{', '.join(names[:3])} changed on the way")
        return arrays, about.get("report")  # checkpoints of earlier versions have none

    def _read(self, step: int, like: State, shardings: State) -> tuple[dict[str, jax.Array], Mapping[str, Any]]:
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
        return self._manager.restore(step, args=arguments)["state"], about

    def wait(self) -> None:
        """Until everything is written.

        Raises:
          CannotWriteError: it could not be, for whatever reason that a thread of Orbax met.
        """
        step, self._writing = self._writing, None
        if step is None:
            return
        path = self._directory / str(step)
        try:
            with _disk_at(path):
                self._manager.wait_until_finished()
        except CannotWriteError:
            raise
        except Exception as error:
            raise CannotWriteError(f"cannot write {path}: {_short(error)}; {_GOES_ON}") from error

    def close(self) -> None:
        """Waits, and ends.

        Raises:
          CannotWriteError: something could not be written.
        """
        with self._quiet:
            try:
                self.wait()
            finally:
                self._manager.close()


@contextlib.contextmanager
def _disk_at(path: epath.Path) -> Iterator[None]:
    """While a disk can refuse what Orbax or TensorStore asks of it."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        number = SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise cannot_write(path, OSError(int(number[1]), os.strerror(int(number[1])))) from error


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
