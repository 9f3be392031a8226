"""The report of a comparison: one table of methods, and a plot of safety against reasoning, one point a method."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
from etils import epath

from lrm_align.evals.statistics import mean_and_spread, wilson
from lrm_align.pages import drawing, safe

Report = dict[str, Any]

# A rate of the table, and what a column is called.
RATES = {
    "attack_success_rate": "attack success",
    "wrapped_attack_success_rate": "wrapped attacks",
    "over_refusal_rate": "look-alikes refused",
    "benign_wrong_rate": "look-alikes wrong",
    "reasoning_accuracy": "arithmetic",
    "fact_accuracy": "facts",
    "unfinished_rate": "unfinished",
}
SECONDS = ("generation", "training", "other")
SAFETY, REASONING = ("attack_success_rate", "wrapped_attack_success_rate"), "reasoning_accuracy"
NOTHING = "nothing to count"
LINEAR_BELOW = 1.0  # per cent, of the plot's logarithmic axis


def subjects(report: Report) -> dict[str, Mapping[str, Any]]:
    """The model as it was and every method, by name, in the order of the report."""
    before = {"before": report["before"]} if "before" in report else {}
    return before | report["methods"]


def rows(report: Report) -> list[tuple[str, ...]]:
    """(name, a cell for each rate, tokens of an answer, a cell for each kind of seconds) of every subject."""
    found = subjects(report)
    spread = report.get("spread", {})
    return [
        (
            name,
            *(_rate(part, rate, spread.get(name, {})) for rate in RATES),
            f"{part['tokens_per_answer']:.1f}" if "tokens_per_answer" in part else "",
            *(f"{part['seconds'][kind]:.0f}" if "seconds" in part else "" for kind in SECONDS),
        )
        for name, part in found.items()
    ]


def headings() -> tuple[str, ...]:
    """What stands over the columns of `rows`."""
    return ("", *RATES.values(), "tokens an answer", *(f"{kind}, s" for kind in SECONDS))


def combine(reports: Sequence[Report]) -> Report:
    """One report of several seeds: means, and sample deviations of the rates in `spread` by name."""
    combined: Report = {**reports[0], "seeds": list(reports), "methods": {}, "spread": {}}
    for name in subjects(reports[0]):
        parts = [subjects(report)[name] for report in reports if name in subjects(report)]
        rates = {rate: mean_and_spread([part[rate] for part in parts]) for rate in RATES if rate in parts[0]}
        made: dict[str, Any] = {rate: mean for rate, (mean, _) in rates.items()}
        made["counts"] = {rate: sum(part["counts"].get(rate, 0) for part in parts) for rate in rates}
        made["tokens_per_answer"] = mean_and_spread([part["tokens_per_answer"] for part in parts])[0]
        if "seconds" in parts[0]:
            made["seconds"] = {k: mean_and_spread([part["seconds"][k] for part in parts])[0] for k in SECONDS}
        combined["spread"][name] = {rate: spread for rate, (_, spread) in rates.items()}
        if name == "before":
            combined["before"] = made
        else:
            combined["methods"][name] = made
    return combined


def show(report: Report, console: rich.console.Console | None = None) -> None:
    """Prints the table."""
    console = console or rich.console.Console(width=None if sys.stdout.isatty() else 240)
    table = rich.table.Table(title=f"{report['title']} ({_note(report)})", box=rich.box.SIMPLE, title_justify="left")
    for number, heading in enumerate(headings()):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows(report):
        table.add_row(*row)
    console.print(table)


def page(report: Report) -> str:
    """The table as the page shows it; every string is harmless."""
    head = "".join(f"<th>{safe.text(cell)}</th>" for cell in headings())
    body = "".join("<tr>" + "".join(map(safe.cell, row)) + "</tr>" for row in rows(report))
    return (
        f"<p><small>{safe.text(_note(report))}; seconds of generation and training without the evaluation</small></p>"
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def write(directory: epath.Path, report: Report) -> list[epath.Path]:
    """Writes the plot as `comparison.svg` and `comparison.png`; returns their paths."""
    plot = figure(report)
    return drawing.save(directory, plot, drawing.drawn(plot))


def safety(part: Mapping[str, Any]) -> float:
    """Attack success, the mean of plain and wrapped attacks, in per cent."""
    return 100 * sum(part[rate] for rate in SAFETY) / len(SAFETY)


def figure(report: Report) -> drawing.Figure:
    """Attack success, with 0 on the right, against accuracy; bars are 95 % intervals, or deviations over seeds."""

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for number, (name, part) in enumerate(subjects(report).items()):
            x, y = safety(part), 100 * part[REASONING]
            across, up = _bars(report, name, part)
            axes.errorbar(
                [x], [y], xerr=across, yerr=up, fmt=drawing.MARKERS[number % len(drawing.MARKERS)],
                color=f"C{number % 10}", markersize=9, elinewidth=0.7, alpha=0.9, label=drawing.label(name),
            )  # fmt: skip
        axes.set_xscale("symlog", linthresh=LINEAR_BELOW)
        axes.set_xlim(130, -0.2)
        ticks = [0, 1, 3, 10, 30, 100]
        axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
        axes.set_xlabel("attack success, mean of plain and wrapped attacks (safer to the right)")
        axes.set_ylabel("arithmetic solved, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    return drawing.Figure("comparison", "Safety against reasoning", f"Bars: {_note(report)}.", draw, (8.0, 5.0))


def _bars(report: Report, name: str, part: Mapping[str, Any]) -> tuple[list[list[float]], list[list[float]]]:
    """Lengths of the error bars in both directions, in per cent."""
    if "spread" in report:
        spread = report["spread"][name]
        across = 100 * math.sqrt(sum(spread[rate] ** 2 for rate in SAFETY)) / len(SAFETY)
        return [[min(across, safety(part))], [across]], [[100 * spread[REASONING]]] * 2
    counts = part["counts"]
    pooled = safety(part) / 100
    low, high = wilson(pooled, sum(counts[rate] for rate in SAFETY))
    below, above = wilson(part[REASONING], counts[REASONING])
    return (
        [[max(0.0, 100 * (pooled - low))], [max(0.0, 100 * (high - pooled))]],
        [[max(0.0, 100 * (part[REASONING] - below))], [max(0.0, 100 * (above - part[REASONING]))]],
    )


def _rate(part: Mapping[str, Any], rate: str, spread: Mapping[str, float]) -> str:
    if rate not in part:
        return "-"
    count = part.get("counts", {}).get(rate)
    if count == 0:
        return NOTHING
    text = f"{100 * part[rate]:.1f} %"
    if rate in spread:
        return f"{text} ± {100 * spread[rate]:.1f}"
    if not count:
        return text
    low, high = wilson(part[rate], count)
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def _note(report: Report) -> str:
    return "mean ± deviation over seeds" if "seeds" in report else "95 % interval"
