"""Several processes that run one program together, as on the hosts of a TPU pod.

Every process runs the same command on the same config. What lies on devices is shared out by the mesh; what the host
decides, all decide alike. What they could decide differently (what a clock says, what a file holds that one of them
writes) the first decides for all: `shared`. The first alone writes files that all see, and talks.

Messages and waiting go through the coordinator of `jax.distributed`, not through the devices, so that every wait has an
end, and so that a process that fails can tell the others, wherever they wait: see `together`.
"""

import atexit
import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the coordinator's client has no public name; Orbax takes it from here, too

from lrm_align import stopping
from lrm_align.errors import UserError, command, one_line

T = TypeVar("T")
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
START_SECONDS = 300  # until all have come
WAIT_SECONDS = 3600  # while the first works alone: it may read or write a model
_GRACE_SECONDS = 10.0  # for a process that is told to stop, and for the coordinator until all others have heard of it
_OWN_SECONDS = 1.0
_SLICE_MS = 1000  # a wait in pieces, between which signals are heard
_PIECE = 1 << 20  # bytes of a message
_ROOT = "lrm_align"
_ENDED = f"{_ROOT}/ended"
_turns = itertools.count()
_ending = threading.Event()  # this process ends by a failure of its own


class AllStop(stopping.Stopped):
    """All processes end at this place, by agreement: nobody must be told."""


def start(environ: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes that the environment names; does nothing where it names none.

    JAX_COORDINATOR_ADDRESS is HOST:PORT of the first process, JAX_NUM_PROCESSES how many there are, and JAX_PROCESS_ID
    which this is, from 0. On the hosts of a TPU pod, which TPU_WORKER_HOSTNAMES names, JAX finds all three by itself.
    To be called before anything touches a device.

    Raises:
      UserError: variables that are missing or make no sense, or processes that did not come.
    """
    found = _named(environ)
    if found is None and "," not in environ.get("TPU_WORKER_HOSTNAMES", ""):
        return
    if jax.distributed.is_initialized():
        return
    # SIGTERM is for the commands themselves: JAX's own handler would swallow it wherever no step is asked about it.
    jax.config.update("jax_enable_preemption_service", False)
    if "JAX_CPU_COLLECTIVES_IMPLEMENTATION" not in environ:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address, number, index = found or (None, None, None)
    who = f"process {index} of {number} at {address}" if found else "a process of this pod"

    def give_up() -> None:  # before JAX does, which takes the process down with a stack trace
        print(f"error: {who} waited {START_SECONDS} s for the others; start all of them", file=sys.stderr, flush=True)
        os._exit(2)

    waiting = threading.Timer(START_SECONDS, give_up)
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(address, number, index, initialization_timeout=2 * START_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{who} could not start: {one_line(error)[:300]}") from None
    finally:
        waiting.cancel()
    enough = threading.Event()
    listener = threading.Thread(target=_listen, args=(enough,), daemon=True)
    listener.start()

    def end() -> None:  # at exit, and before what JAX does there: a thread must not wait in a client that goes away
        enough.set()
        listener.join(_GRACE_SECONDS)

    atexit.register(end)


def _named(environ: Mapping[str, str]) -> tuple[str, int, int] | None:
    """(address, processes, index of this one); None for one process alone."""
    given = {name: environ[name].strip() for name in (ADDRESS, COUNT, INDEX) if environ.get(name, "").strip()}
    if not given:
        return None
    if missing := [name for name in (ADDRESS, COUNT, INDEX) if name not in given]:
        raise UserError(
            f"the environment sets {' and '.join(given)} but not {' and '.join(missing)}; several processes need all "
            f"of {ADDRESS}, {COUNT} and {INDEX}, one process none"
        )
    address, number, index = given[ADDRESS], given[COUNT], given[INDEX]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
        raise UserError(f"{ADDRESS} is {address!r}; HOST:PORT of the first process would be right")
    if not number.isdecimal() or not int(number[:9]) > 0:
        raise UserError(f"{COUNT} is {number!r}; it must be at least 1")
    if not index.isdecimal() or int(index[:9]) >= int(number):
        raise UserError(f"{INDEX} is {index!r}; of {number} processes it must be 0 to {int(number) - 1}")
    return None if int(number) == 1 else (address, int(number), int(index))


def one(what: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuses several processes for what is the work of one.

    Raises:
      UserError: the environment names several.
    """
    found = _named(environ)
    if found is not None:
        raise UserError(f"{what} runs in one process, but {COUNT} is {found[1]}; unset {ADDRESS}, {COUNT} and {INDEX}")


def count() -> int:
    """How many processes there are. Asks no device where there is one."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def primary() -> bool:
    """Whether this is the process that writes and talks."""
    return count() == 1 or jax.process_index() == 0


def shared(what: str, make: Callable[[], T]) -> T:
    """What the first process makes, for all of them: `make` runs there alone, and nobody goes on before it is done.

    Args:
      what: for messages; all processes must be at the same place.
      make: gives something that JSON can hold; with several processes its tuples become lists.

    Raises:
      UserError: another process did not come within `WAIT_SECONDS`, or is at another place.
    """
    if count() == 1:
        return make()
    place = f"{_ROOT}/turn/{next(_turns)}"
    if not primary():
        number = int(_get(f"{place}/pieces", what))
        where, value = json.loads("".join(_get(f"{place}/{i}", what) for i in range(number)))
        if where != what:
            raise UserError(f"process {jax.process_index()} is at {what!r} and the first process at {where!r}")
        _client().key_value_set(f"{place}/heard/{jax.process_index()}", "")
        return value
    value = make()
    text = json.dumps([what, value])
    begins = range(0, len(text), _PIECE)
    for number, begin in enumerate(begins):
        _client().key_value_set(f"{place}/{number}", text[begin : begin + _PIECE])
    _client().key_value_set(f"{place}/pieces", str(len(begins)))
    for index in range(1, count()):
        _get(f"{place}/heard/{index}", what)
    _client().key_value_delete(place)
    return json.loads(text)[1]


def first(what: str, mine: T) -> T:
    """The first process's value for all, where each has made one of its own; see `shared`."""
    return shared(what, lambda: mine)


def barrier(what: str) -> None:
    """The first process goes on when all are here, each other one when the first is: what it wrote can be read.

    Raises:
      UserError: as `shared`.
    """
    shared(what, lambda: None)


def agree(what: str, value: Any) -> None:
    """Makes sure that all processes hold the same plain value; a `barrier`, too.

    Raises:
      UserError: as `shared`, and for a process that holds another one.
    """
    if count() == 1:
        return
    mine, theirs = json.loads(json.dumps(value)), first(what, value)
    if mine != theirs:
        raise UserError(
            f"process {jax.process_index()} has other {what} than the first process: {_short(mine)} and "
            f"{_short(theirs)}; give all the same command, config and files"
        )


class Highest:
    """The highest number that any process has told: each step tells one, and all learn the same a step later.

    The answer is an all-reduce on the devices that nobody waits for before the next step, so that no step is delayed.
    """

    def __init__(self) -> None:
        self._told: jax.Array | None = None

    def of(self, mine: int) -> int:
        """The highest when this was last called, 0 at first (alone: now). Every process calls it in every step."""
        if count() == 1:
            return mine
        before, self._told = self._told, _highest(mine)
        return 0 if before is None else int(before)


def _highest(number: int) -> jax.Array:
    """On every device; still on its way when this returns."""
    mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    numbers = jax.make_array_from_callback((mesh.size,), split, lambda index: np.full(1, number, np.int32))
    with jax.set_mesh(mesh):
        return _max(mesh)(numbers)


@functools.cache
def _max(mesh: jax.sharding.Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jax.numpy.max, out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def acquaint(mesh: jax.sharding.Mesh) -> None:
    """Connects the processes for every collective operation over axes of a mesh, while all of them are here.

    On CPUs they connect when such an operation first runs, and wait for each other for no more than 30 seconds: less
    than one may take longer than another to compile what it stands in.

    Raises:
      UserError: as `shared`.
    """
    if count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    axes = [name for name, size in mesh.shape.items() if size > 1]
    groups = [some for number in range(len(axes)) for some in itertools.combinations(axes, number + 1)]
    everywhere = jax.sharding.PartitionSpec()

    def met(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    with jax.set_mesh(mesh):
        mapped = jax.shard_map(met, mesh=mesh, in_specs=everywhere, out_specs=everywhere)
        compiled = jax.jit(mapped).lower(np.float32(1)).compile()
        barrier("a mesh")
        jax.block_until_ready(compiled(np.float32(1)))


def each(what: str, mine: T) -> list[T]:
    """The plain values of all processes, in their order.

    Raises:
      UserError: as `shared`.
    """
    if count() == 1:
        return [mine]
    place = f"{_ROOT}/each/{next(_turns)}"
    _client().key_value_set(f"{place}/{jax.process_index()}", json.dumps(mine))
    return shared(what, lambda: [json.loads(_get(f"{place}/{index}", what)) for index in range(count())])


def everyone(what: str, mine: bool) -> bool:
    """Whether all processes say yes.

    Raises:
      UserError: as `shared`.
    """
    return all(each(what, bool(mine)))


def together(main: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command that several processes may run: starts them, and ends all when one fails.

    Only the first process prints to standard output. One that fails says why, as ever, and its status becomes that of
    all: they are told, and end wherever they are, since a collective operation would wait for it for ever. A process
    that is killed is missed by JAX's heartbeat.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        command(start)()
        if count() == 1:
            return main(*args, **kwargs)
        try:
            with contextlib.nullcontext() if primary() else _silent():
                found = main(*args, **kwargs)
            barrier("the end of the command")  # what still fails in the first process, the others must hear
            return found
        except AllStop:
            raise
        except SystemExit as stop:
            if not stop.code:
                raise
            _end(stop.code if isinstance(stop.code, int) else 1, stop.__cause__ or stop)
        except BaseException as error:
            # Operations on the devices fail, with whatever error, where another process has ended: then the listener
            # hears why, and ends this one, too.
            time.sleep(_OWN_SECONDS + 2 * _SLICE_MS / 1000)
            traceback.print_exc()
            _end(1, error)

    return wrapped


@contextlib.contextmanager
def _silent():
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):  # noqa: PTH123
        yield


def _end(status: int, error: BaseException) -> None:
    """Tells all others, and ends this process at once: what JAX does at exit would wait for them."""
    _ending.set()
    why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    told = json.dumps([jax.process_index(), status, one_line(error if isinstance(error, UserError) else why)[:1000]])
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another has told before, or the coordinator is gone
        _client().key_value_set(_ENDED, told)
    _leave(status)


def _listen(enough: threading.Event) -> None:
    """Ends this process when another has ended by a failure."""
    client = _client()
    while not enough.is_set():
        try:
            index, status, why = json.loads(client.blocking_key_value_get(_ENDED, _SLICE_MS))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                continue
            return  # the coordinator is gone, and JAX sees to the rest
        if index == jax.process_index():
            return
        if status > 128:
            # A scheduler's signal, which is this one's, too: time to end well.
            signal.raise_signal(status - 128)
            time.sleep(_GRACE_SECONDS)
        if _ending.wait(_OWN_SECONDS):  # most mistakes are found by all at once, and each has said so
            return
        print(f"error: process {index} ended: {why}", file=sys.stderr)
        _leave(status)


def _leave(status: int) -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _client().key_value_set(f"{_ROOT}/gone/{jax.process_index()}", "")
        if primary():  # which is the coordinator: it stays until nobody needs it
            end = time.monotonic() + _GRACE_SECONDS
            for index in range(1, count()):
                left = max(1, int(1000 * (end - time.monotonic())))
                _client().blocking_key_value_get(f"{_ROOT}/gone/{index}", left)
            time.sleep(0.5)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _client() -> Any:
    client = distributed.global_state.client
    assert client is not None, "processes.start was not called"
    return client


def _get(key: str, what: str) -> str:
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return _client().blocking_key_value_get(key, _SLICE_MS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if time.monotonic() > end:
            raise UserError(
                f"process {jax.process_index()} waited {WAIT_SECONDS} s for the others at {what!r}; one of them hangs "
                "or is gone: end all, and give the same command again"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
