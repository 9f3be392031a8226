"""`python -m lrm_align.main --config=FILE.py[:PRESET]`: runs a method from its prompts to its report.

The order: parse the command line; check every stage (`Recipe` building is the preflight); write `run.json`; run the
stages that are not finished; write and show the report.
"""

import contextlib
import copy
import json
import platform
import subprocess
import sys
import uuid
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

import lrm_align
from lrm_align import atomic_files, processes
from lrm_align import report as reports
from lrm_align.config import DRY_RUN, WORKDIR, Invocation, Usage, parse, plain, reading, resolve
from lrm_align.errors import UserError, command
from lrm_align.models import exports
from lrm_align.recipes import stage as stages_
from lrm_align.recipes.recipe import Recipe
from lrm_align.rl.locks import alone

USAGE = Usage(
    "python -m lrm_align.main",
    "Runs a method from its prompts to its report. Given again, the same command goes on where it was.",
    {
        **WORKDIR,
        "--stages=NAME,…": "only these stages, with what they depend on; --dry_run lists them",
        **DRY_RUN,
    },
    (
        "python -m lrm_align.main --config=configs/quickstart.py",
        "python -m lrm_align.main --config=configs/quickstart.py:full --config.seeds=3",
        "python -m lrm_align.main --config=configs/thinksafe_tpu.py:qwen3_8b --workdir=gs://BUCKET/run --stages=sample",
    ),
)


@processes.together
@command
def main(argv: Sequence[str]) -> None:
    """Runs the recipe of a config."""
    invocation = invoked(argv, USAGE)
    config = invocation.config
    workdir = epath.Path(invocation.options["workdir"] or default_workdir(invocation.name))
    names = invocation.options["stages"].split(",") if invocation.options["stages"] else None
    dry = bool(invocation.options["dry_run"])
    if not dry:
        make(workdir)
    with contextlib.nullcontext() if dry else working(workdir):
        _run_all(config, workdir, names, invocation, dry)


def invoked(argv: Sequence[str], usage: Usage) -> Invocation:
    """A command line whose config is a method's.

    Raises:
      UserError: a mistake in it, or the config of an evaluation, which another command runs.
    """
    invocation = parse(argv, usage)
    if {"sets", "perplexity"} <= set(invocation.config.keys()):
        raise UserError(f"{invocation.name} is an evaluation: run it by python -m lrm_align.evaluate --config=…")
    return invocation


def built(config: ConfigDict, workdir: epath.Path, invocation: Invocation) -> Recipe:
    """The recipe of a config, after its preflight.

    Raises:
      UserError: whatever a user can mend.
    """
    with reading(invocation.name):
        return resolve(config.recipe)(config, workdir)


def _run_all(config: ConfigDict, workdir: epath.Path, names, invocation: Invocation, dry: bool) -> None:
    finished = []
    for one, directory in runs(config, workdir):
        recipe = built(one, directory, invocation)
        stages_.chosen(recipe.stages, names)
        if dry:
            describe(recipe, one, directory)
            return
        make(directory)
        with contextlib.nullcontext() if directory == workdir else working(directory):
            finished.append(_run(recipe, one, directory, names, invocation))
    if len(finished) > 1 and all("before" in report and {"after", "methods"} & set(report) for report in finished):
        combined = reports.combine(finished)
        if processes.primary():
            reports.show(combined)
            print(reports.last_line(reports.write(workdir, combined)))


def _run(recipe: Recipe, config: ConfigDict, workdir: epath.Path, names, invocation: Invocation) -> dict[str, Any]:
    kept = run_facts(config, invocation, recipe.facts)
    atomic_files.write_text(workdir / "run.json", json.dumps(kept, indent=1, default=str))
    if config.wandb and processes.primary():
        _start_wandb(config, workdir)
    summaries = stages_.run(recipe.stages, workdir, names)
    directories = {planned.stage.name: planned.directory for planned in stages_.plan(recipe.stages, workdir)}
    report = {"title": recipe.title, "config": invocation.name, "seed": config.seed, "model": config.model.path}
    report |= recipe.report(summaries, directories)
    report["stages"] = {name: directories[name].name for name in summaries}
    if processes.primary():
        exports.link(workdir)
        reports.show(report)
        print(reports.last_line(reports.write(workdir, report), _exports(directories)))
    return report


def _exports(directories: Mapping[str, epath.Path]) -> list[epath.Path]:
    """The models that a run wrote, the last one first."""
    found = [directory / kind for directory in directories.values() for kind in ("model", "adapters")]
    return [place for place in found[::-1] if place.is_dir()]


def _start_wandb(config: ConfigDict, workdir: epath.Path) -> None:
    """Mirrors the TensorBoard metrics to Weights & Biases, project `config.wandb`."""
    try:
        import wandb
    except ModuleNotFoundError:
        raise UserError("config.wandb is set, but wandb is not installed: pip install -e '.[wandb]'") from None
    name = f"{workdir.name}-seed{config.seed}"
    wandb.init(project=config.wandb, name=name, config=plain(config), sync_tensorboard=True, reinit="finish_previous")


def runs(config: ConfigDict, workdir: epath.Path) -> list[tuple[ConfigDict, epath.Path]]:
    """The config and the directory of each seed.

    Raises:
      UserError: no seed at all.
    """
    if config.seeds < 1:
        raise UserError(f"config.seeds is {config.seeds}; it must be at least 1")
    found = []
    for seed in range(config.seed, config.seed + config.seeds):
        one = copy.deepcopy(config).unlock()
        one.seed = seed
        found.append((one, workdir if config.seeds == 1 else workdir / f"seed_{seed}"))
    return found


def default_workdir(name: str) -> str:
    """Where a run of a config goes that names no workdir.

    >>> default_workdir("quickstart:full")
    'runs/quickstart-full'
    """
    return f"runs/{name.replace(':', '-')}"


def make(workdir: epath.Path) -> None:
    """Creates the workdir and writes to it once, before anything slow could be lost; all processes must see it.

    Raises:
      UserError: it cannot be written, or lies where another process does not see it.
    """
    probe = workdir / ".writable"

    def write() -> str:
        mark = uuid.uuid4().hex
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            probe.write_text(mark)
        except OSError as error:
            raise UserError(f"workdir {workdir} is not writable: {error.strerror or error}") from None
        return mark

    mark = processes.shared("a workdir", write)
    if processes.count() > 1:
        seen = probe.exists() and probe.read_text() == mark
        if not processes.everyone("what lies in the workdir", seen):
            raise UserError(
                f"workdir {workdir} is not the same place for all {processes.count()} processes; give one that they "
                "share, a network file system or a bucket"
            )
    if processes.primary():
        probe.unlink()


def working(workdir: epath.Path) -> contextlib.AbstractContextManager[None]:
    """While this is the only command that fills a workdir; of processes that run together, the first sees to that.

    Samplers that follow a run (`lrm_align.sample --follow`) work beside it, and have locks of their own.

    Raises:
      UserError: when it is entered, if a living process works there.
    """
    return alone(workdir / "main.lock", "run") if processes.primary() else contextlib.nullcontext()


def run_facts(config: ConfigDict, invocation: Invocation, facts: Sequence[str] = ()) -> Mapping[str, Any]:
    """What `run.json` keeps: the resolved config, what a dry run says of it, command, versions, commit, devices."""
    return {
        "config": plain(config),
        "name": invocation.name,
        "facts": list(facts),
        "command": sys.argv,
        "versions": _versions(),
        "commit": _commit(),
        "seed": config.seed,
        "devices": [str(device) for device in jax.devices()],
        "processes": processes.count(),
    }


def _versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "transformers", "datasets", "numpy")
    versions = {name: metadata.version(name) for name in names}
    return {"lrm_align": lrm_align.__version__, "python": platform.python_version(), **versions}


def _commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    root = epath.Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def describe(recipe: Recipe, config: ConfigDict, workdir: epath.Path) -> None:
    """Prints the resolved config, what it would do, and which stages are finished."""
    print(json.dumps(plain(config), indent=1))
    for fact in recipe.facts:
        print(fact)
    print(f"plan ({workdir}):")
    for planned in stages_.plan(recipe.stages, workdir):
        state = "finished" if planned.finished is not None else "to run"
        after = f" after {', '.join(planned.stage.depends)}" if planned.stage.depends else ""
        print(f"  {planned.stage.name:20}{state:10}{planned.directory.name}{after}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main(sys.argv)
