"""`python -m lrm_align.evaluate --config=FILE.py[:PRESET]`: measures a model on benchmarks.

The order: parse the command line; read every benchmark and render every prompt; sample what is missing; judge what is
missing; print the table. Killed and started again it goes on. `evaluation.json` holds every number with how it came
about; `NAME-verdicts-*/verdicts-*.jsonl` every prompt, response and verdict.
"""

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
from etils import epath
from ml_collections import ConfigDict

from lrm_align import atomic_files, processes
from lrm_align import main as main_
from lrm_align import report as reports
from lrm_align.config import DRY_RUN, WORKDIR, Invocation, Usage, parse, reading, resolve
from lrm_align.errors import UserError, command
from lrm_align.recipes import stage as stages

USAGE = Usage(
    "python -m lrm_align.evaluate",
    "Measures a model directory or hub id on benchmarks, and keeps every prompt, response and verdict.",
    {**WORKDIR, "--sets=NAME,…": "only these of config.sets and config.perplexity.sets", **DRY_RUN},
    (
        "python -m lrm_align.evaluate --config=configs/evaluate_lab.py",
        "python -m lrm_align.evaluate --config=configs/evaluate.py --config.model.path=MY_MODEL \\",
        "    --sets=strongreject,gsm8k --config.sets.strongreject.path=strongreject.csv --config.sets.gsm8k.limit=100",
    ),
)


@processes.together
@command
def main(argv: Sequence[str]) -> None:
    """Evaluates, and says where everything lies."""
    invocation = parse(argv, USAGE)
    if not {"sets", "perplexity"} <= set(invocation.config.keys()):
        raise UserError(
            f"{invocation.name} is no evaluation: its config has no sets; add --config=configs/evaluate.py and "
            "--config.model.path=DIR"
        )
    config = _chosen(invocation.config, invocation.options["sets"])
    workdir = epath.Path(invocation.options["workdir"] or main_.default_workdir(invocation.name))
    with reading(invocation.name):
        recipe = resolve(config.recipe)(config, workdir)
    if invocation.options["dry_run"]:
        main_.describe(recipe, config, workdir)
        return
    main_.make(workdir)
    with main_.working(workdir):
        _run(recipe, config, workdir, invocation)


def _run(recipe: Any, config: ConfigDict, workdir: epath.Path, invocation: Invocation) -> None:
    atomic_files.write_text(
        workdir / "run.json", json.dumps(main_.run_facts(config, invocation, recipe.facts), indent=1, default=str)
    )
    summaries = stages.run(recipe.stages, workdir)
    directories = {planned.stage.name: planned.directory for planned in stages.plan(recipe.stages, workdir)}
    report = {"title": recipe.title, "config": invocation.name, "seed": config.seed, "model": config.model.path}
    report |= recipe.report(summaries, directories)
    if not processes.primary():
        return
    atomic_files.write_text(workdir / "evaluation.json", json.dumps(report, indent=1, allow_nan=False))
    page = reports.write(workdir, report)
    show(report["evaluation"])
    for name, directory in directories.items():
        if name.endswith("-verdicts"):
            print(f"{name.removesuffix('-verdicts')}: every prompt, response and verdict in {directory}")
    print(f"numbers: {workdir / 'evaluation.json'}; page: {page}")


def _chosen(config: ConfigDict, names: str | None) -> ConfigDict:
    """The config with some of its sets alone."""
    if not names:
        return config
    wanted = names.split(",")
    known = [*config.sets.keys(), *config.perplexity.sets.keys()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UserError(f"--sets names {', '.join(unknown)}; this config has {', '.join(known)}")
    with config.unlocked():
        for sets in (config.sets, config.perplexity.sets):
            for name in set(sets.keys()) - set(wanted):
                del sets[name]
    return config


def show(evaluation: Mapping[str, Any], console: rich.console.Console | None = None) -> None:
    """Prints a line for each benchmark, each average and each perplexity."""
    console = console or rich.console.Console(width=None if sys.stdout.isatty() else 150)
    table = rich.table.Table(box=rich.box.SIMPLE, title="Evaluation (95 % intervals)", title_justify="left")
    left = ("set", "metric", "judge (part)")
    for heading in (*left[:2], "rate", "prompts × samples", "undecided", "cut", "open", "no thought", left[2]):
        table.add_column(heading, justify="left" if heading in left else "right")
    for one in evaluation["results"]:
        rate = "nothing judged" if one["rate"] is None else f"{_percent(one['rate'])} {_interval(one['interval'])}"
        if "pass_at_k" in one and one["samples"] > 1:
            k, best = list(one["pass_at_k"].items())[-1]
            rate += f"; pass@{k} {_percent(best['value'])}"
        table.add_row(
            one["set"],
            f"{one['metric'].replace('_', ' ')} {one.get('estimate', '')}".strip(),
            rate,
            f"{one['judged_prompts']} × {one['samples']}",
            str(sum(one["undecided"].values())),
            str(one["truncated"]),
            str(one["unfinished_thoughts"]),
            str(one["no_thought"]),
            f"{one['judge'].split(' model:')[0]} ({one['part']})",
        )
    if table.row_count:
        console.print(table)
    for average in evaluation["averages"].values():
        differs = "; ".join(f"{column}: {', '.join(found)}" for column, found in average["differs"].items())
        note = f"; not measured as in the paper: {differs}" if differs else ""
        line = f"{average['title']}: {_percent(average['value'])} {_interval(average['interval'])}{note}"
        console.print(line, highlight=False, markup=False)
    for name, one in evaluation["perplexity"].items():
        low, high = one["interval"]
        console.print(
            f"perplexity of {name}: {one['perplexity']:.3f} [{low:.3f}, {high:.3f}] ({one['tokens']:,} tokens of "
            f"{one['traces']:,} traces; span {one['span']}, context {one['context']})",
            highlight=False,
            markup=False,
        )
    for one in evaluation["results"]:
        if "categories" in one:
            named = ", ".join(f"{count} {category}" for category, count in one["categories"].items())
            console.print(f"{one['set']}: harmful responses by category: {named}", highlight=False, markup=False)
        if one["undecided"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in one["undecided"].items())
            console.print(f"{one['set']}: in no rate: {reasons}", highlight=False, markup=False)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main(sys.argv)
