"""The report of a run: a table on the terminal, `report.json`, and one plain self-contained `report.html`.

`python -m lrm_align.report WORKDIR` writes the page again from `report.json`.
"""

import collections
import html
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
from etils import epath

from lrm_align import comparison
from lrm_align.errors import UserError, command
from lrm_align.evals.statistics import mean_and_spread, wilson

Report = dict[str, Any]

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}small{color:#666}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.7rem;border-left:3px solid #999;font-size:.85rem}
svg{border:1px solid #ddd;width:100%;height:auto}
"""


def rates(part: Mapping[str, Any]) -> dict[str, float]:
    """The rates and correlations of one half of a report, by name."""
    return {name: value for name, value in part.items() if isinstance(value, float) and name.endswith(_SHOWN)}


_RATES = ("_rate", "_accuracy", "_rate_risky", "_rate_general")
_CORRELATION = "_correlation"
_SHOWN = (*_RATES, _CORRELATION)
# Of a report; "offered" (with a tool, untrained) and "after_sft" belong to methods that have them.
_PARTS = ("before", "offered", "after_sft", "after")
# Rates of the untrained model alone, and what the page calls them.
_ALONE = {
    "steered_attack_success_rate": "attack success when steered",
    "risk_identification_rate": "risks named in its own reasoning, of successful attacks",
}


def parts(report: Report) -> list[str]:
    """The measurements that a table has a column for: before, after, and after the first stage if there is one."""
    return [name for name in _PARTS if name in report or name in ("before", "after")]


def rows(report: Report) -> list[tuple[str, ...]]:
    """(name, a cell for each of `parts`, n) of every rate that was measured."""
    measured = {name: report.get(name, {}) for name in parts(report)}
    counts = {name: count for part in measured.values() for name, count in part.get("counts", {}).items()}
    spread = report.get("spread", {})

    def shown(half: str, part: Mapping[str, Any], name: str) -> str:
        if name not in part:
            return "-"
        if part.get("counts", {}).get(name) == 0:
            return "nothing to count"  # A rate of nothing, such as of a guard that never decides, is no 0 %.
        if name.endswith(_CORRELATION):
            return f"{part[name]:.2f} ± {spread[half][name]:.2f}" if half in spread else f"{part[name]:.2f}"
        text = f"{100 * part[name]:.1f} %"
        if half in spread:
            return f"{text} ± {100 * spread[half][name]:.1f}"
        low, high = wilson(part[name], counts.get(name, 0))
        return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if name in counts else text

    names = dict.fromkeys(name for part in measured.values() for name in rates(part))
    return [
        (name, *(shown(half, part, name) for half, part in measured.items()), str(counts.get(name, "-")))
        for name in names
    ]


def combine(reports: Sequence[Report]) -> Report:
    """One report of several seeds: means in each of `parts`, sample deviations in `spread`."""
    if "methods" in reports[0]:
        return comparison.combine(reports)
    combined: Report = {**reports[0], "seeds": list(reports), "spread": {}}
    for half in _PARTS:
        if any(half not in report for report in reports):
            continue
        names = rates(reports[0][half])
        statistics = {name: mean_and_spread([report[half][name] for report in reports]) for name in names}
        combined[half] = {name: mean for name, (mean, _) in statistics.items()}
        combined[half]["counts"] = {
            name: sum(report[half]["counts"][name] for report in reports) for name in reports[0][half]["counts"]
        }
        combined["spread"][half] = {name: spread for name, (_, spread) in statistics.items()}
    for name in _ALONE:
        if name in reports[0]:
            combined[name], combined["spread"][name] = mean_and_spread([report[name] for report in reports])
    if "traces" in reports[0]:
        combined["traces"] = {
            what: dict(sum((collections.Counter(report["traces"][what]) for report in reports), collections.Counter()))
            for what in ("kept", "dropped")
        }
    if "disjoint" in reports[0]:
        found = [report["disjoint"] for report in reports]
        sums = {
            what: dict(sum((collections.Counter(one[what]) for one in found), collections.Counter()))
            for what in ("trained", "evaluated")
        }
        combined["disjoint"] = {**found[0], **sums, "shared": sum(one["shared"] for one in found)}
    return combined


def show(report: Report, console: rich.console.Console | None = None) -> None:
    """Prints the table of before and after, and what became of the traces; of a comparison, the table of methods."""
    if "methods" in report:
        comparison.show(report, console)
        return
    width = 50 + 25 * len(parts(report))
    console = console or rich.console.Console(width=None if sys.stdout.isatty() else width)
    interval = "mean ± deviation over seeds" if "seeds" in report else "95 % interval"
    table = rich.table.Table(title=f"{report['title']} ({interval})", box=rich.box.SIMPLE, title_justify="left")
    table.add_column("")
    for heading in (*parts(report), "n"):
        table.add_column(heading.replace("_", " "), justify="right")
    for row in rows(report):
        table.add_row(*row)
    if table.row_count:
        console.print(table)
    for name, title in _ALONE.items():
        if name in report:
            console.print(f"{title}: {100 * report[name]:.1f} %")
    if "traces" in report:
        console.print(f"traces: {_traces(report['traces'])}", highlight=False)
    if "disjoint" in report:
        console.print(_disjoint(report["disjoint"]), highlight=False)
    if "preference" in report.get("training", {}):
        console.print(f"pairs at the end of training: {_preference(report['training'])}", highlight=False)


def write(directory: epath.Path, report: Report) -> epath.Path:
    """Writes `report.json` and `report.html`, and the plot of a comparison; returns the page's path."""
    (directory / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False))
    if "methods" in report:
        comparison.write(directory, report)
    page = directory / "report.html"
    page.write_text(render(report))
    return page


def render(report: Report) -> str:
    """The page: no network, no script, every string of a model or a prompt escaped."""
    table = comparison.page(report) if "methods" in report else _rate_table(report)
    sections = [f"<h1>{html.escape(report['title'])}</h1>", _settings(report), table]
    sections += [
        f"<p>Of the untrained model: {title}: {100 * report[name]:.1f} %</p>"
        for name, title in _ALONE.items()
        if name in report
    ]
    if "traces" in report:
        sections.append(f"<h2>Traces</h2><p>{html.escape(_traces(report['traces']))}</p>")
    if "disjoint" in report:
        sections.append(f"<p>{html.escape(_disjoint(report['disjoint']))}</p>")
    if "preference" in report.get("training", {}):
        sections.append(f"<p>Pairs at the end of training: {html.escape(_preference(report['training']))}</p>")
    if report.get("losses"):
        sections.append("<h2>Training loss</h2>" + _curve(report["losses"]))
    for example in report.get("examples", ()):
        parts = "".join(
            f"<p><b>{html.escape(str(name))}</b></p><pre>{html.escape(str(text))}</pre>"
            for name, text in example.items()
            if name != "title"
        )
        sections.append(f"<h3>{html.escape(str(example['title']))}</h3>{parts}")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(report['title'])}</title><style>{STYLE}</style>{''.join(sections)}</html>\n"
    )


def _settings(report: Report) -> str:
    facts = {"config": report.get("config"), "seed": report.get("seed"), "model": report.get("model")}
    if "seeds" in report:
        facts["seed"] = ", ".join(str(one.get("seed")) for one in report["seeds"])
    shown = [f"{name} {html.escape(str(value))}" for name, value in facts.items() if value is not None]
    return f"<p>{'; '.join(shown)}</p>"


def _rate_table(report: Report) -> str:
    note = "mean ± standard deviation over seeds" if "seeds" in report else "95 % Wilson interval in brackets"
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in (row[0].replace("_", " "), *row[1:])) + "</tr>"
        for row in rows(report)
    )
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("", *parts(report), "n"))
    head = f"<tr>{head}</tr>"
    return f"<h2>Before and after</h2><p><small>{note}</small></p><table>{head}{body}</table>"


def _traces(traces: Mapping[str, Any]) -> str:
    kept = ", ".join(f"{count} {label}" for label, count in traces["kept"].items()) or "none"
    dropped = ", ".join(f"{count} {reason}" for reason, count in traces["dropped"].items()) or "none"
    return f"kept {kept}; dropped {dropped}"


def _disjoint(found: Mapping[str, Any]) -> str:
    def counted(side: str) -> str:
        return ", ".join(f"{count} in {name}" for name, count in found[side].items())

    return (
        f"training prompts that the evaluation asks: {found['shared']} (of {counted('trained')}; asked are "
        f"{counted('evaluated')}; compared by {found['hash']})"
    )


def _preference(training: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in training["preference"].items())


def _curve(losses: Sequence[Sequence[float]], width: int = 800, height: int = 240) -> str:
    """A line of (step, loss) points with its extremes written out."""
    steps, values = zip(*losses, strict=True)
    low, high = min(values), max(values)
    across, up = max(steps[-1] - steps[0], 1), max(high - low, 1e-9)
    points = " ".join(
        f"{10 + (width - 20) * (step - steps[0]) / across:.1f},{height - 10 - (height - 20) * (value - low) / up:.1f}"
        for step, value in losses
    )
    text = f"<p><small>steps {steps[0]:.0f} to {steps[-1]:.0f}, loss {values[0]:.3f} to {values[-1]:.3f}</small></p>"
    line = f'<polyline points="{points}" fill="none" stroke="#225" stroke-width="2"/>'
    return f'{text}<svg viewBox="0 0 {width} {height}" role="img" aria-label="training loss">{line}</svg>'


@command
def main(argv: Sequence[str]) -> None:
    """Writes `report.html` of a run again."""
    if len(argv) != 2 or argv[1].startswith("-"):
        raise UserError("usage: python -m lrm_align.report WORKDIR")
    directory = epath.Path(argv[1])
    try:
        report = json.loads((directory / "report.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{directory} has no report.json; run python -m lrm_align.main first") from None
    except ValueError:
        raise UserError(f"{directory / 'report.json'} is not JSON") from None
    show(report)
    print(f"report: {write(directory, report)}")


if __name__ == "__main__":
    main(sys.argv)
