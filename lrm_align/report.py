"""The report of a run: a table on the terminal, `report.json`, `report.html` with the trace reader, and plots as files.

python -m lrm_align.report WORKDIR                 writes the page of a run again, finished or not
python -m lrm_align.report WORKDIR WORKDIR …       puts several runs side by side
"""

import argparse
import json
import sys
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
from etils import epath

from lrm_align import atomic_files, limits, processes
from lrm_align.arguments import Parser
from lrm_align.errors import UserError, command
from lrm_align.pages import book as books
from lrm_align.pages import card, charts, comparison, drawing, page, rates, shelves, words
from lrm_align.pages import run as runs_
from lrm_align.pages.rates import Report, combine, parts, rows
from lrm_align.pages.run import Part, Run
from lrm_align.traces.show import escaped

__all__ = ["Report", "combine", "main", "parts", "render", "rows", "show", "write"]

PAGE, PLOTS = "report.html", "plots"


def show(report: Report, console: rich.console.Console | None = None) -> None:
    """Prints the table of before and after, and what became of the traces; of a comparison, the table of methods."""
    if "methods" in report:
        comparison.show(report, console)
        return
    if "prefix_search" in report:
        words.show(report["prefix_search"], report["title"], console)
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
    for fact in rates.facts(report):
        console.print(escaped(fact), highlight=False, markup=False)


def write(directory: epath.Path, report: Report) -> epath.Path:
    """Writes `report.json`, `report.html` and the plots of a run that has just ended; returns the page's path."""
    atomic_files.write_text(directory / "report.json", json.dumps(report, indent=1, allow_nan=False))
    run = runs_.read(directory, report=report)
    card.complete(run)
    return write_page(directory, [run])


def write_page(directory: epath.Path, runs: Sequence[Run], traces: int = books.TRACES) -> epath.Path:
    """Writes the page of runs and its plots, as SVG and PNG, to a directory; returns the page's path.

    Args:
      directory: for `report.html` and `plots/`.
      runs: what workdirs hold.
      traces: at most, in the reader.

    Raises:
      UserError: a damaged shard or manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    book = books.write(runs, traces)
    found = [shelf for run in runs for shelf in shelves.of(run, len(runs) == 1)]
    elements = []
    for run in runs:
        if "methods" in run.report and len(runs) == 1:
            elements.append(_drawn(directory, comparison.figure(run.report)))
    elements += [_drawn(directory / PLOTS, figure) for figure in charts.figures(runs, found, books.stepped_in(book))]
    path = directory / PAGE
    atomic_files.write_text(path, page.render(runs, "".join(elements), book))
    return path


def render(report: Report) -> str:
    """The page of a report alone, without plots and traces."""
    return page.render([Run("run", epath.Path("."), report, {}, [Part("", {})])])


def _drawn(directory: epath.Path, figure: drawing.Figure) -> str:
    files = drawing.drawn(figure)
    drawing.save(directory, figure, files)
    return drawing.element(figure, files["svg"])


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "python -m lrm_align.report",
        "Writes the page of a run again, finished or not, or one page of several runs side by side.",
        "python -m lrm_align.report runs/quickstart",
        "python -m lrm_align.report runs/thinksafe runs/rapo --output=side_by_side",
        "python -m lrm_align.report gs://BUCKET/run --traces=1000 --output=here",
    )
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="of lrm_align.main or lrm_align.evaluate")
    parser.add_argument(
        "--output", metavar="DIR", help="for the page and its plots; the workdir, or ./side_by_side for several"
    )
    parser.add_argument(
        "--traces",
        type=int,
        default=books.TRACES,
        metavar="N",
        help="in the reader, at most, 0 for none; default %(default)s",
    )
    parsed = parser.parse_args(arguments)
    limits.count(parsed.traces, "--traces")
    return parsed


@command
def main(argv: Sequence[str]) -> None:
    """Writes the page of a run again, or of several side by side."""
    processes.one("python -m lrm_align.report")
    parsed = _arguments(argv[1:])
    directories = [epath.Path(workdir).expanduser() for workdir in parsed.workdirs]
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such directory; a workdir of python -m lrm_align.main would be right")
    names = runs_.names(directories)
    runs = [runs_.read(directory, name) for directory, name in zip(directories, names, strict=True)]
    for run in runs:
        show(run.report)
    single = directories[0] if len(runs) == 1 else epath.Path("side_by_side")
    written = write_page(epath.Path(parsed.output).expanduser() if parsed.output else single, runs, parsed.traces)
    print(f"page: {written} (open it in a browser); plots: {written.parent / PLOTS}")


def last_line(written: epath.Path, exports: Sequence[epath.Path] = ()) -> str:
    """Where everything is.

    >>> last_line(epath.Path("runs/a/report.html"), [epath.Path("runs/a/export-0/model")])
    'everything is in runs/a: report.html (open it in a browser), report.json, plots/, export-0/model'
    """
    workdir = written.parent
    parts = [f"{written.name} (open it in a browser)", "report.json", f"{PLOTS}/"]
    parts += ["/".join(place.relative_to(workdir).parts) for place in exports[:2]]
    return f"everything is in {workdir}: {', '.join(parts)}"


if __name__ == "__main__":
    main(sys.argv)
