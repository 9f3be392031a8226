"""`python -m lrm_align.serve --config=FILE.py[:PRESET]`: the config's model behind an OpenAI-compatible chat endpoint.

A defence of `lrm_align.defences`, or one of your own, stands between the clients and the model: `--defence=safe_think`,
`--defence=my_defences:mine`, or `config.defence`. Clients need nothing special:

    OpenAI(base_url="http://127.0.0.1:8765/v1", api_key="any").chat.completions.create(model="lab", messages=…)

The key that clients must send is in the environment variable LRM_ALIGN_API_KEY; without it any key is accepted. The
server is reached from this machine alone unless --host says otherwise.
"""

import dataclasses
import json
import os
import pathlib
import sys
import unicodedata
from collections.abc import Callable, Sequence

from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrm_align import atomic_files, defences, processes, settings, stopping
from lrm_align import main as main_
from lrm_align.config import DRY_RUN, Invocation, Usage, parse, plain, resolve
from lrm_align.defences import Defence
from lrm_align.errors import UserError, command
from lrm_align.lab import CHECKPOINT
from lrm_align.models import partition
from lrm_align.recipes import defending, safethink, selection
from lrm_align.recipes.student import Student
from lrm_align.sampling import Engine, EngineShape
from lrm_align.sampling.interventions import BatchIntervention
from lrm_align.sampling.live import Live, seconds_a_token, warm
from lrm_align.scoring import Guard
from lrm_align.serving import app, http
from lrm_align.serving.service import Service
from lrm_align.settings.serving import ServeSettings
from lrm_align.training import make_mesh

KEY = "LRM_ALIGN_API_KEY"
PORT, HOST = 8765, "127.0.0.1"
PATIENCE = 2.0  # times what the longest answer takes at the measured speed; ours
USAGE = Usage(
    "python -m lrm_align.serve",
    f"Offers a model behind an OpenAI-compatible chat endpoint. Clients send the key in {KEY}, if it is set.",
    {
        "--defence=NAME": "of lrm_align.defences, or an import path package.module:name; config.defence if left out",
        "--port=N": f"{PORT} if left out; 0: any free one",
        "--host=ADDRESS": f"{HOST} (this machine alone) if left out",
        "--workdir=DIR": "for run.json; none is written if left out",
        **DRY_RUN,
    },
    (
        "python -m lrm_align.serve --config=configs/quickstart.py --defence=safe_path",
        "python -m lrm_align.serve --config=configs/lab_safethink.py --port=8765",
        "python -m lrm_align.serve --config=configs/quickstart.py --config.model.path=MY_MODEL \\",
        "    --config.serve.max_length=8192 --host=0.0.0.0 --port=80",
    ),
)


@command
def main(argv: Sequence[str]) -> None:
    """Serves until it is stopped."""
    processes.one("python -m lrm_align.serve")
    try:
        _serve(argv)
    except stopping.Stopped as stopped:
        stopped.kept = "nothing was served yet"
        raise


def _serve(argv: Sequence[str]) -> None:
    invocation = parse(argv, USAGE)
    config, options = invocation.config, invocation.options
    limits = settings.made(ServeSettings, config.get("serve", {}), "config.serve")
    named = chosen(config, options["defence"])
    if named.factory:
        resolve(named.factory)
    host, key = options["host"] or HOST, _key(os.environ.get(KEY, ""))
    with http.bind(host, _port(options["port"])) as listening:  # before anything slow
        mesh, guards = _meshes(config)
        student = Student(config.model, mesh)
        guard = guard_of(config, named, guards)
        defence = defending.defence(named, student, guard)
        asks = isinstance(defence.intervention, BatchIntervention)
        if asks and "guard" in config:
            selection.check(config.guard, student)
        shape = engine_shape(limits, student.config.max_positions, defence)
        student.fits(shape.slots, shape.max_length)
        name = limits.name or _name(config.model.path)
        address = _address(host, listening.getsockname()[1])
        facts = (
            f"{name} ({config.model.path}), defence {defence.name}, {shape.slots} slots of {shape.max_length} tokens"
        )
        if options["dry_run"]:
            print(json.dumps({**plain(config), "defence": plain(named)}, indent=1))
            print("\n".join([*student.facts(), f"would serve {facts} at {address}"]))
            return
        if asks:
            defending.checked(guard())  # here, so that no request waits for its weights
        _record(invocation, student.facts())
        live, limits = _live(student, shape, config.seed, limits)
        service = Service(live, student.chat, defence, limits, shape.max_length)
        hosts = app.LOOPBACK if host in app.LOOPBACK and not key else None
        who = f"the key in {KEY}" if key else "any API key"
        print(f"serving {facts}\n{address} takes {who}; stop with Ctrl-C", flush=True)
        if not key and host not in app.LOOPBACK:
            print(f"warning: {host} can be reached by others, and any key is accepted: set {KEY}", file=sys.stderr)
        try:
            http.serve(app.application(service, name, key, hosts), listening, limits)
        except (KeyboardInterrupt, stopping.Stopped):
            pass  # the server ends in good order and then raises its signal again
        finally:
            live.close()
            counts = live.counts()
            print(f"served {counts.finished:,} samples, {counts.tokens:,} tokens; {counts.cancelled:,} cancelled")


def chosen(config: ConfigDict, flag: str | None) -> ConfigDict:
    """Factory and arguments of the defence: the flag's, else the config's, else none."""
    found = plain(config.get("defence", {"factory": "", "args": {}}))
    if flag:
        factory = flag if ":" in flag else f"{defences.__name__}:{flag}"
        same = factory == found["factory"] or not found["factory"]
        found = {"factory": factory, "args": found["args"] if same else {}}
    return ConfigDict(found)


def guard_of(config: ConfigDict, named: ConfigDict, mesh: Mesh) -> Callable[[], Guard]:
    """What builds the guard for a defence that asks one, when it is first asked: a dry run reads no weights.

    Raises:
      UserError: when asked, where the config has none.
    """

    def guard() -> Guard:
        if "guard" not in config:
            raise UserError(f"{named.factory} needs a guard, and the config has none: add config.guard")
        return selection.guard(config.guard, mesh)

    return guard


def engine_shape(limits: ServeSettings, longest: int, defence: Defence) -> EngineShape:
    """The sizes of the engine: slots of at most the model's positions, and room for what the defence is asked at."""
    length = min(limits.max_length, longest)
    shape = EngineShape(limits.slots, length, steps_per_call=limits.steps_per_call, lanes=limits.lanes)
    return shape if defence.intervention is None else shape.serving(defence.intervention)


def _live(student: Student, shape: EngineShape, seed: int, limits: ServeSettings) -> tuple[Live, ServeSettings]:
    """The engine at work, and limits that it can keep to."""
    mesh = None if student.mesh.size == 1 else student.mesh
    stop_ids = student.chat.stop_ids
    engine = Engine(student.model, student.params, shape, stop_ids=stop_ids, seed=seed, mesh=mesh)
    if limits.warm:
        print(f"compiling for {partition.platform()} …", file=sys.stderr, flush=True)
        warm(engine)
        limits = paced(limits, seconds_a_token(engine), shape.max_length)
    return Live(engine, limits.queue), limits


def paced(limits: ServeSettings, seconds: float, length: int) -> ServeSettings:
    """Limits of time that a model keeps to which takes so long for a token: whole answers of it have to fit.

    >>> paced(ServeSettings(request_timeout=600.0), 0.5, 4096).request_timeout
    4096.0

    Args:
      limits: the least that a request gets.
      seconds: that a token takes.
      length: tokens of the longest answer.
    """
    whole = PATIENCE * seconds * length
    timeouts = {name: max(getattr(limits, name), whole) for name in ("request_timeout", "queue_timeout")}
    return dataclasses.replace(limits, **timeouts)


def _meshes(config: ConfigDict) -> tuple[Mesh, Mesh]:
    """The model's mesh and the guard's."""
    if "devices" in config.get("guard", {}):
        return safethink.meshes(config)
    mesh = make_mesh(plain(config.mesh))
    return mesh, mesh


def _name(path: str) -> str:
    """What clients call a model: a directory's last part, or a hub id as it is."""
    if path == str(CHECKPOINT):
        return "lab"
    return pathlib.PurePath(path).name if pathlib.Path(path).is_dir() else path


def _record(invocation: Invocation, said: Sequence[str]) -> None:
    if invocation.options["workdir"]:
        workdir = epath.Path(invocation.options["workdir"])
        main_.make(workdir)
        facts = main_.run_facts(invocation.config, invocation, said)
        atomic_files.write_text(workdir / "run.json", json.dumps(facts, indent=1, default=str))


def _key(text: str) -> str:
    """The key that clients must send.

    Raises:
      UserError: one that no header can carry.
    """
    if text != text.strip() or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise UserError(f"{KEY} begins or ends with white space, or holds a line break: no client can send such a key")
    return text


def _port(text: str | None) -> int:
    if text is None:
        return PORT
    if not text.isdecimal():
        raise UserError(f"--port={text}: a port is a number from 0 (any free one) to 65535")
    return int(text[:6])


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


if __name__ == "__main__":
    main(sys.argv)
