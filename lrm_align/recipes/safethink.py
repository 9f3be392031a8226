"""SafeThink, and any other defence at inference: the model as it is, measured without and with what steps in.

Ghosal et al. 2026, arXiv 2602.11096: no training; see `lrm_align.defences`. The stages: before, after (the same prompts
under the defence), the depth curve (attack success for each number of early steps that may be steered, the paper's
figure), and what the defence costs on prompts that need none.
"""

import collections
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align import atomic_files, processes
from lrm_align.chat import Prompt
from lrm_align.config import build, plain
from lrm_align.defences import Defence, none
from lrm_align.errors import UserError
from lrm_align.recipes import defending, describe, measuring, prompting, rollouts, selection
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import Engine
from lrm_align.sampling.interventions import ForcedPrefix
from lrm_align.settings import check_factories
from lrm_align.traces import list_shards, read_shard
from lrm_align.training import make_mesh

NEVER_ASKED = 0.1  # ours: beyond this share of harmful prompts a defence's rate is not the defence's

READ_BY = {
    **measuring.read_by(("before", "after", "depth", "cost")),
    "defence": ("after", "depth", "cost"),
    "guard": ("after", "depth", "cost"),
    "depth": ("depth",),
    "cost": ("cost",),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    mesh, guards = meshes(config)
    student = Student(config.model, mesh)
    selection.check(config.guard, student)
    selection.check(config.evaluate.guard, student)
    measuring.check(config.evaluate)
    more = {**plain(config.evaluate.args), **plain(config.depth.args)}
    check_factories({"evaluate": {**plain(config.evaluate), "args": more}}, "config.depth.args over config")

    def guard() -> Any:
        return selection.guard(config.guard, guards)

    defended = defending.defence(config.defence, student, guard)
    depths = {m: defending.defence(config.defence, student, guard, early=m) for m in config.depth.steps}
    timed = prompts(config)

    def before(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return measuring.run(directory, student, config, config.evaluate.before_args)

    def after(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        found = measuring.run(directory, student, config, {}, defending.talk(student, defended))
        found = {**found, "interventions": interventions(directory, asks(defended))}
        warning = never_asked(directory, defended)
        if warning:
            print(f"  warning: {warning}")
            found["warnings"] = [warning]
        return found

    def depth(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        curve, counts = [], []
        for m, one in depths.items():
            found = measuring.run(directory / f"m{m}", student, config, config.depth.args, defending.talk(student, one))
            curve.append([m, found["attack_success_rate"]])
            counts.append(found.get("counts", {}).get("attack_success_rate"))
        return {"depth": curve, "counts": counts}

    def cost(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        return costs(directory, student, timed, {"without": none(student.chat, guard), "with": defended}, config)

    scope, model, args = Scope(config, READ_BY), student.identity, measuring.arguments(config)
    stages = [
        scope.stage("before", before, model=model, args=args),
        scope.stage("after", after, model=model, args=args),
    ]
    if depths:
        stages.append(scope.stage("depth", depth, model=model, args=args))
    if timed:
        stages.append(scope.stage("cost", cost, model=model, prompts=prompting.identity(timed)))
    facts = [
        *student.facts(),
        f"defence: {defended.name} {plain(config.defence.args)}",
        f"guard: {config.guard.factory} on {guards.size} of {jax.device_count()} devices",
        f"guard of the evaluation: {config.evaluate.guard.factory} {plain(config.evaluate.guard.args)}",
    ]
    return Recipe("SafeThink" if defended.name == "safe_think" else defended.name, stages, facts, report)


def meshes(config: ConfigDict) -> tuple[Any, Any]:
    """(the model's mesh, the guard's): one for both, or the last `config.guard.devices` devices for the guard.

    Raises:
      UserError: no device is left for the model, or the guard would not lie on its own.
    """
    own = config.guard.devices
    devices = jax.devices()
    if own and not config.guard.sharded:
        raise UserError(f"config.guard.devices is {own}, but config.guard.sharded is False: nothing would lie on them")
    if not 0 <= own < len(devices):
        raise UserError(f"config.guard.devices is {own}; of {len(devices)} devices the model needs at least one")
    if own and processes.count() > 1:
        raise UserError(
            f"config.guard.devices is {own}, but there are {processes.count()} processes, whose devices all belong to "
            "the model; set it to 0"
        )
    if not own:
        mesh = make_mesh(plain(config.mesh))
        return mesh, mesh
    first, last = devices[: len(devices) - own], devices[len(devices) - own :]
    return make_mesh(plain(config.mesh), first), make_mesh({"fsdp": own}, last)


def prompts(config: ConfigDict) -> list[Prompt]:
    """The prompts that need no defence, on which its cost is measured; none where no factory is named.

    Raises:
      UserError: the factory makes none that is benign.
    """
    if not config.cost.factory:
        return []
    made = build(config.cost.factory, {**config.cost.args, "seed": config.seed})
    benign = [prompt for prompt in made if prompt.label == "benign"]
    if not benign:
        raise UserError(
            f"config.cost: none of {len(made)} prompts of {config.cost.factory} is benign, so there is nothing to "
            'measure the cost on; name other prompts, or config.cost.factory = "" for no such stage'
        )
    return benign


def costs(
    directory: epath.Path, student: Student, asked: Sequence[Prompt], defences: Mapping[str, Any], config: ConfigDict
) -> Summary:
    """Tokens and seconds of the same prompts without a defence and with it, in turns.

    Tokens are those that were decoded, whatever was taken back again; seconds include the guard.

    Returns:
      `benign_tokens_ratio` and `benign_seconds_ratio`, with / without: the median over the rounds of the second.
    """
    settings = ConfigDict(measuring.sampling(config))
    engines, requests = {}, {}
    for name, defended in defences.items():
        requests[name] = defending.talk(student, defended).requests(asked, settings)
        engines[name] = Engine(
            student.model,
            student.params,
            rollouts.engine_shape(settings, (request.intervention for request in requests[name])),
            stop_ids=student.chat.stop_ids,
            seed=config.seed,
            mesh=None if student.mesh.size == 1 else student.mesh,
        )
    tokens, seconds = collections.Counter[str](), collections.defaultdict[str, list[float]](list)
    for turn in range(config.cost.rounds + 1):  # the first compiles
        for name in defences:
            decoded: list[int] = []
            started = time.perf_counter()
            for _ in engines[name].run(requests[name], decoded.append):
                pass
            if turn:
                tokens[name] += sum(decoded)
                seconds[name].append(time.perf_counter() - started)
    ratios = [b / a for a, b in zip(seconds["without"], seconds["with"], strict=True)]
    atomic_files.write_text(directory / "seconds.json", json.dumps(seconds))
    return {
        "benign_tokens_ratio": tokens["with"] / tokens["without"],
        "benign_seconds_ratio": statistics.median(ratios),
        "prompts": len(asked),
    }


def asks(defended: Defence) -> bool:
    """Whether a defence looks at completions, and may never have the occasion; the others act on every one."""
    return defended.intervention is not None and not isinstance(defended.intervention, ForcedPrefix)


def never_asked(directory: epath.Path, defended: Defence) -> str | None:
    """A line where the defence had no occasion to act in more than a tenth of the answers to harmful prompts."""
    if not asks(defended):
        return None
    states = [state for tags, state in _states(directory) if "harmful" in tags[:1]]
    never = sum(not _asked(state) for state in states)
    if never <= NEVER_ASKED * len(states):
        return None
    rule = getattr(getattr(defended.intervention, "steps", None), "rule", "")
    cause = {
        "paragraph": "their first paragraph had no end; config.defence.args.steps = 'sentence' asks more often",
        "sentence": "their first sentence had no end; config.defence.args.steps = 'tokens' asks more often",
        "tokens": "they were shorter than a step; lower config.defence.args.step_tokens",
    }.get(rule, "they had no place at which it looks")
    return f"{defended.name} was never asked in {never} of {len(states)} answers to harmful prompts: {cause}"


def _states(place: epath.Path) -> list[tuple[Sequence[str], dict[str, Any]]]:
    """(tags, state of the intervention) of all traces below a directory."""
    folders = sorted(path for path in place.iterdir() if path.is_dir())
    shards = [shard for folder in folders for shard in list_shards(folder)]
    return [(trace.tags, trace.meta.get("intervention", {})) for shard in shards for trace in read_shard(shard)]


def _asked(state: Mapping[str, Any]) -> bool:
    return bool(state.get("scores") or state.get("asked"))


def interventions(directory: epath.Path, asking: bool) -> dict[str, dict[str, Any]]:
    """What the defence did, by set of prompts: how often it was asked and stepped in, and what no guard could judge.

    `asked_rate` is the share of responses in which it had an occasion, and is left out for defences that act on all.
    `counts` are of responses, for steps of those that had any: the steps of a response are not independent. A rate of
    nothing is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(path for path in directory.iterdir() if path.is_dir()):
        states = [t.meta.get("intervention", {}) for shard in list_shards(name) for t in read_shard(shard)]
        scores = [value for state in states for _, value in state.get("scores", [])]
        stepped = {"injection_rate": [(state.get("injected") or state.get("forced") or 0) > 0 for state in states]}
        stepped["unscored_rate"] = [value is None for value in scores]
        stepped["asked_rate"] = [_asked(state) for state in states] if asking else []
        counts = {"injection_rate": len(states), "unscored_rate": sum(bool(state.get("scores")) for state in states)}
        counts["asked_rate"] = len(states)
        found[name.name] = {rate: float(np.mean(values)) for rate, values in stepped.items() if values}
        found[name.name]["counts"] = {rate: counts[rate] for rate, values in stepped.items() if values}
    return found


def report(summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]) -> dict[str, Any]:
    """The report of the stages that are finished."""
    out = describe.report(summaries, directories)
    for name in ("depth", "cost"):
        if name in summaries:
            out[name] = summaries[name]
    return out
