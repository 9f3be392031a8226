"""The filter stage: verdicts for every sampled trace, and training shards of those that stay."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrm_align.config import build, digest, plain, resolve
from lrm_align.errors import UserError, attributed
from lrm_align.models import Model, hf, hf_files, memory
from lrm_align.recipes import filtering, rewriting
from lrm_align.recipes.filtering import Verdict
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.scoring import Guard
from lrm_align.settings import guards
from lrm_align.traces import ShardWriter, Trace, find_shards

KEPT = "sft"


def check(settings: ConfigDict, student: Student | None = None) -> None:
    """Looks whether the guard can be had, without reading its weights.

    A factory's module may say more in a function `check`, which takes arguments of the factory, by name; a guard
    without one is only bound to its arguments, as every factory of a config is.

    Args:
      settings: of the guard.
      student: whose weights are in memory while the guard judges.

    Raises:
      UserError: no such factory, what `check` says: no such directory, weights that don't match the config, another
        model, an endpoint that is down; or weights that don't fit beside the student's.
    """
    found = resolve(settings.factory)
    looks = vars(inspect.getmodule(found)).get("check")
    arguments = plain(settings.args)
    if looks is None:
        return
    if (path := arguments.get("path_or_hub_id")) is not None:
        try:
            hf_files.resolve(path)
        except UserError as error:
            raise UserError(f"{error}; {guards.INSTEAD}") from None
    looks(**{name: arguments[name] for name in _taken(looks, arguments)})
    if path is not None and student is not None:
        mesh = student.mesh if settings.sharded else None
        shapes = hf.shapes(path, hf.dtypes(path, arguments.get("dtype"), mesh)["dtype"])
        needed = {"guard": memory.weights(Model(hf.check(path)), shapes, mesh), "model": student.bytes}
        memory.check(f"judging with {path}", needed, "try a smaller guard, or one at an endpoint", mesh)


def _taken(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Those of the names by which a function takes arguments."""
    known = inspect.signature(function).parameters
    every = any(one.kind is one.VAR_KEYWORD for one in known.values())
    return [name for name in names if every or name in known]


def identity(settings: ConfigDict) -> dict[str, Any]:
    """What tells one guard from another: its config, and of a local directory the weights that lie there now.

    Raises:
      UserError: a directory without a config or weights.
    """
    path = settings.args.get("path_or_hub_id")
    if path is None or not epath.Path(path).is_dir():
        return plain(settings)
    return {**plain(settings), "weights": digest(hf_files.fingerprint(epath.Path(path)))}


def rule(settings: ConfigDict) -> filtering.Rule:
    """The rule of `config.filter` that says which traces stay.

    Raises:
      UserError: no such factory, arguments that it does not take, or something that is no rule.
    """
    found = build(settings.factory, settings.args)
    wanted = "a function (traces, chat, guard, threshold) -> list[filtering.Verdict]"
    if not callable(found):
        raise UserError(f"{settings.factory} returned a {type(found).__name__}; wanted {wanted}")
    try:
        inspect.signature(found).bind(*range(4))
    except TypeError as error:
        raise UserError(
            f"{settings.factory} returned a function that cannot be called: {error}; wanted {wanted}"
        ) from None
    return found


@functools.cache
def _guard(factory: str, arguments: tuple[tuple[str, Any], ...]) -> Guard:
    return build(factory, dict(arguments))


def guard(settings: ConfigDict, mesh: Mesh) -> Guard:
    """The guard of a config, loaded once; on the mesh where `settings.sharded` says so and its factory takes one."""
    spreads = settings.sharded and "mesh" in inspect.signature(resolve(settings.factory)).parameters
    arguments = plain(settings.args) | ({"mesh": mesh} if spreads else {})
    return _guard(settings.factory, tuple(sorted(arguments.items())))


def run(
    directory: epath.Path,
    sampled: epath.Path,
    sampler: Student,
    student: Student,
    config: ConfigDict,
    written: Mapping[str, Sequence[Trace]] = {},
) -> Summary:
    """Filters, rewrites and writes; returns `{"kept": {label: n}, "dropped": {"label: reason": n}, "undecided": …}`.

    Args:
      directory: of the verdicts and the training shards.
      sampled: the sampled shards.
      sampler: the model that drew them.
      student: the model that will train on them.
      config: of the run.
      written: traces that nobody sampled, which are trained on as they are, by what the report calls them.
    """
    shards = find_shards(sampled)
    judge_with = guard(config.guard, student.mesh)
    decide = rule(config.filter)

    def judge(traces: Sequence[Trace]) -> list[Verdict]:
        with attributed(config.filter.factory, "a rule as filtering.judge"):
            verdicts = decide(traces, sampler.chat, judge_with, config.guard.threshold)
        filtering.check_verdicts(config.filter.factory, verdicts, len(traces))
        return verdicts

    verdicts = filtering.judge_shards(shards, directory, judge)
    if config.filter.whole_groups:
        verdicts = filtering.whole_groups(verdicts, config.seed)
    counts: dict[str, Any] = filtering.counted(verdicts, filtering.labels(shards))
    counts["guard"] = f"{judge_with.name} {judge_with.version}"
    identity = digest([plain(config.filter), counts, [shard.manifest.sha256 for shard in shards]])
    same_tokens = sampler is student or rewriting.same_tokens(sampler.chat, student.chat)

    def rewrite(trace: Trace) -> Trace:
        if not same_tokens:
            trace = rewriting.translated(trace, sampler.chat, student.chat)
        if config.filter.strip_thinking and trace.tags[0] == "harmful":
            trace = rewriting.without_thinking(trace, student.chat)
        return rewriting.unsteered(trace, student.chat)

    target = directory / KEPT
    filtering.write_kept(shards, verdicts, target, rewrite, identity)
    for name, traces in written.items():
        with ShardWriter(target, identity, flush_every=1024, prefix="written") as writer:
            for trace in traces:
                if trace.key not in writer.done:
                    writer.add(trace)
        counts["kept"] |= {name: len(traces)}
    warnings = [] if written else filtering.few_harmful(counts)
    for warning in warnings:
        print(f"  warning: {warning}")
    return counts | ({"warnings": warnings} if warnings else {})
