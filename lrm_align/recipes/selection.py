"""The filter stage: verdicts for every sampled trace, and training shards of those that stay."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrm_align.config import build, digest, plain, resolve
from lrm_align.errors import UserError, attributed
from lrm_align.models import hf, hf_files
from lrm_align.recipes import filtering, rewriting
from lrm_align.recipes.filtering import Verdict
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.scoring import Guard
from lrm_align.traces import ShardWriter, Trace, find_shards

KEPT = "sft"


def check(settings: ConfigDict) -> None:
    """Looks whether the guard can be had, without reading its weights.

    Raises:
      UserError: no such factory; for a guard with a model, no such directory, weights that don't match the config, or
        what the `check(path_or_hub_id)` of the factory's module, if it has one, says of another model.
    """
    found = resolve(settings.factory)
    path = settings.args.get("path_or_hub_id")
    if path is not None:
        hf.check(path)
        of_the_guard = vars(inspect.getmodule(found)).get("check")
        if of_the_guard is not None:
            of_the_guard(path)


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
    """The guard of a config, loaded once; on the mesh where `settings.sharded` says so."""
    arguments = plain(settings.args) | ({"mesh": mesh} if settings.sharded else {})
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
    return counts
