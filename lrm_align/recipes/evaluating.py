"""Evaluation of a model: every benchmark is sampled and judged in two stages of its own, and all of it is kept.

A stage that was killed goes on where it was, prompt by prompt and verdict by verdict; another judge, part or limit of
judging judges the same answers again without sampling them.
"""

import contextlib
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from lrm_align import limits
from lrm_align.chat import Prompt
from lrm_align.config import build, digest, plain, resolve
from lrm_align.errors import UserError
from lrm_align.evals import averages, benchmark_files
from lrm_align.evals.benchmarks import AIMS, ANSWER, BENCHMARKS, BENIGN, HARMFUL
from lrm_align.evals.judging import METRICS, Judge, Rated, Right
from lrm_align.evals.summary import summarised
from lrm_align.recipes import defending, judging, perplexity, prompting, rollouts, selection
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.scoring import framed
from lrm_align.scoring.math_answers import Checker
from lrm_align.settings import counted
from lrm_align.settings.sampling import SampleSettings
from lrm_align.training import make_mesh

GUARD = "guard"  # as `config.refusal.factory`: the guard judges refusals, too


class Asked(NamedTuple):
    """One set of an evaluation, read and checked.

    Attributes:
      prompts: to sample.
      aim: what is counted.
      about: for the record of the result.
      sampling: `config.sample` with the set's own changes.
    """

    prompts: list[Prompt]
    aim: str
    about: dict[str, Any]
    sampling: ConfigDict


def one_set(benchmark: str = "", **given: Any) -> dict[str, Any]:
    """An entry of `config.sets` with every key there is, so that a command line can change each.

    Args:
      benchmark: a name in `evals.benchmarks.BENCHMARKS`; "" with a `factory` of prompts and an `aim`.
      **given: path, subset, split, wording, limit, samples (0 for the papers'), sampling (what differs from
        `config.sample`), factory, args, aim.

    Raises:
      UserError: a key that a set has not.
    """
    keys = {"path": "", "subset": "", "split": "", "wording": "", "limit": 0, "samples": 0, "aim": "", "factory": ""}
    more = ("sampling", "args")
    unknown = sorted(set(given) - {*keys, *more})
    if unknown:
        raise UserError(f"config.sets: a set has no {', '.join(unknown)}; it has {', '.join([*keys, *more])}")
    return {"benchmark": benchmark, **keys, **{name: {} for name in more}, **given}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Reads every benchmark and renders every prompt, before the first sample is drawn.

    Raises:
      UserError: whatever a user can mend.
    """
    mesh = make_mesh(plain(config.mesh))
    student = Student(config.model, mesh)
    averages.check({name: settings.benchmark for name, settings in config.sets.items()})
    asked = {name: read(name, settings, config) for name, settings in config.sets.items()}
    if not asked and not config.perplexity.sets:
        raise UserError("config.sets is empty and so is config.perplexity.sets: there is nothing to measure")
    if any(one.aim == HARMFUL for one in asked.values()) or config.refusal.factory == GUARD:
        selection.check(config.guard, student)
    framed.check_part(config.part)
    framed.check_part(config.refusal.part)
    if config.refusal.factory != GUARD:
        resolve(config.refusal.factory)
    elif not _makes(config.guard.factory, "score_refusals"):
        raise UserError(f"config.refusal.factory is {GUARD!r}, but {config.guard.factory} does not judge refusals")
    if config.categories and not _makes(config.guard.factory, "assess"):
        raise UserError(
            f"config.categories is {config.categories}, but {config.guard.factory} names no categories, as "
            "lrm_align.scoring.qwen3_guard:load does"
        )
    if not (config.answers.seconds > 0 and config.answers.workers >= 1):
        raise UserError(f"config.answers is {plain(config.answers)}; seconds must be above 0 and workers at least 1")
    perplexity.check(config.perplexity)
    guard = functools.cache(lambda: selection.guard(config.guard, mesh))
    defended = defending.defence(config.defence, student, guard)
    talk = defending.talk(student, defended)

    identity = functools.cache(lambda: selection.identity(config.guard))
    defence = _defence(config, identity)
    for one in asked.values():
        talk.requests(one.prompts, one.sampling)  # each prompt fits

    def sampler(name: str, one: Asked) -> Callable[..., Summary]:
        def run(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
            requests = talk.requests(one.prompts, one.sampling)
            return rollouts.run(directory, student, requests, one.sampling, config.seed, f"  {name}")

        return run

    def judged(name: str, one: Asked) -> Callable[..., Summary]:
        def run(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
            with contextlib.closing(_judge(config, one.aim, guard)) as judge:
                verdicts = judging.run(directory, inputs[name], one.prompts, student.chat, judge, f"  {name}")
                found = summarised(verdicts, METRICS[one.aim])
                about = {"judge": f"{judge.name} {judge.version}", "part": judge.part}
            return {**one.about, **found, **about, "sampling": _drawn(config, one.sampling, defence)}

        return run

    def surprised(name: str, traces: str) -> Callable[..., Summary]:
        return lambda directory, _: perplexity.run(traces, student, config.perplexity)

    scope, stages = Scope(config, _read_by(asked, config)), []
    for name, one in asked.items():
        drawn, told = counted(one.sampling, SampleSettings), prompting.identity(one.prompts)
        stages.append(scope.stage(name, sampler(name, one), model=student.identity, prompts=told, sampling=drawn))
        rules = Checker.version if one.aim == ANSWER else ""
        stages.append(scope.stage(f"{name}-verdicts", judged(name, one), (name,), rules=rules))
    for name, traces in config.perplexity.sets.items():
        found = perplexity.identity(traces)
        stages.append(scope.stage(f"perplexity-{name}", surprised(name, traces), model=student.identity, traces=found))
    return Recipe("Evaluation", stages, _facts(student, asked, config), functools.partial(_report, asked))


def read(name: str, settings: ConfigDict, config: ConfigDict) -> Asked:
    """The prompts of a set, by its benchmark or by its factory.

    Args:
      name: of the set.
      settings: its entry of `config.sets`.
      config: of the run.

    Raises:
      UserError: neither or both, an unknown aim, whatever is wrong with the file.
    """
    where = f"config.sets.{name}"
    for count in ("limit", "samples"):
        limits.count(settings[count], f"{where}.{count}")
    if bool(settings.benchmark) == bool(settings.factory):
        raise UserError(f"{where}: give either benchmark (one of {', '.join(BENCHMARKS)}) or factory and aim")
    if settings.benchmark:
        options = {key: settings[key] for key in ("path", "subset", "split", "wording", "limit")}
        prompts = benchmark_files.load(settings.benchmark, **options, seed=config.seed)
        known = benchmark_files.benchmark(settings.benchmark)
        about = {"title": known.title, "source": known.source, "published": known.prompts}
        aim, samples = settings.aim or known.aim, settings.samples or known.samples
    else:
        prompts = build(settings.factory, {**plain(settings.args), "seed": config.seed})
        prompts = limits.first(prompts, settings.limit)
        about, aim, samples = {"title": name, "source": settings.factory}, settings.aim, settings.samples or 1
    if aim not in AIMS:
        raise UserError(f"{where}: aim {aim!r}; expected one of {', '.join(AIMS)}")
    if not prompts:
        raise UserError(f"{where}: no prompt is left")
    if aim == ANSWER:
        benchmark_files.check_answers(prompts, where)
    if unknown := sorted(set(settings.sampling) - set(config.sample)):
        raise UserError(f"{where}.sampling: config.sample has no {', '.join(unknown)}")
    about = {"set": name, "benchmark": settings.benchmark, **about, "aim": aim, "path": settings.path}
    about |= {"prompts_hash": _digest(prompts), "samples": samples}
    sampling = ConfigDict({**plain(config.sample), **plain(settings.sampling), "samples": samples})
    return Asked(prompts, aim, about, sampling)


def _judge(config: ConfigDict, aim: str, guard: Callable[[], Any]) -> Judge:
    if aim == ANSWER:
        return Right(Checker(config.answers.seconds, config.answers.workers))
    if aim == HARMFUL:
        found = guard()
        assess = found.assess if config.categories else None
        return Rated(found.score, found.name, found.version, config.part, config.guard.threshold, assess)
    if config.refusal.factory != GUARD:
        rule = build(config.refusal.factory, config.refusal.args)
        return Rated(rule.score, rule.name, rule.version, config.refusal.part)
    found = guard()
    return Rated(found.score_refusals, found.name, found.version, config.refusal.part)


def _makes(factory: str, method: str) -> bool:
    """Whether a factory, a class or a function that says what it returns, makes a guard with a method."""
    made = resolve(factory)
    returned = made if isinstance(made, type) else typing.get_type_hints(made).get("return")
    return hasattr(returned, method)


def _read_by(asked: Mapping[str, Asked], config: ConfigDict) -> dict[str, Sequence[str]]:
    """For the `Scope`: what is drawn depends on no judge, and what is judged on that of its aim alone."""
    judged = {aim: [f"{name}-verdicts" for name, one in asked.items() if one.aim == aim] for aim in AIMS}
    guarded = judged[HARMFUL] + [name for name in judged[BENIGN] if config.refusal.factory == GUARD]
    guarded += list(asked) if config.defence.factory else []
    return {
        "sets": (),  # their prompts and sampling count
        "sample": (),
        "defence": list(asked),
        "guard": guarded,
        "part": judged[HARMFUL],
        "categories": judged[HARMFUL],
        "refusal": judged[BENIGN],
        "answers": judged[ANSWER],
        "perplexity": [f"perplexity-{name}" for name in config.perplexity.sets],
    }


def _defence(config: ConfigDict, guard: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The defence that answers were drawn under, with the guard that it may have asked."""
    found = plain(config.defence)
    return {**found, "guard": guard()} if config.defence.factory else found


def _drawn(config: ConfigDict, sampling: ConfigDict, defence: dict[str, Any]) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "samples")
    drawn = {name: sampling[name] for name in names} | {"seed": config.seed}
    return drawn | ({"defence": defence} if config.defence.factory else {})


def _digest(prompts: list[Prompt]) -> str:
    return digest([[prompt.id, prompt.text, str(prompt.meta.get("answer"))] for prompt in prompts])


def _facts(student: Student, asked: Mapping[str, Asked], config: ConfigDict) -> list[str]:
    lines = student.facts()
    for name, one in asked.items():
        short = one.about.get("published", len(one.prompts)) != len(one.prompts)
        published = f" of {one.about['published']}" if short else ""
        lines.append(
            f"{name}: {len(one.prompts)}{published} prompts, {one.sampling.samples} a prompt, {METRICS[one.aim]}; "
            f"first: {one.prompts[0].text[:80]!r}"
        )
    lines += [f"perplexity of {name}: {path}" for name, path in config.perplexity.sets.items()]
    return lines


def _report(
    asked: Mapping[str, Asked], summaries: Mapping[str, Summary], directories: Mapping[str, epath.Path]
) -> dict[str, Any]:
    """Every result under `evaluation`, and its rates once more where pages look for those of a run."""
    results = [summaries[f"{name}-verdicts"] for name in asked if f"{name}-verdicts" in summaries]
    found = averages.averages(results)
    rates: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for one in results:
        if one["rate"] is not None:
            rates[f"{one['set']}_{one['metric']}"] = one["rate"]
            counts[f"{one['set']}_{one['metric']}"] = one["judged_prompts"]
    surprises = {n.removeprefix("perplexity-"): s for n, s in summaries.items() if n.startswith("perplexity-")}
    evaluation = {"results": results, "averages": found, "perplexity": surprises}
    return {"measured": {**rates, "counts": counts}, "evaluation": evaluation}
