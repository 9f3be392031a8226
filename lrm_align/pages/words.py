"""What a prefix search found: a table of what each candidate gains and moves, best first, and a plot of both."""

import sys
from collections.abc import Mapping
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text

from lrm_align.pages.drawing import COLOURS, Figure, label
from lrm_align.traces.show import escaped

SHOWN = 40  # rows; all are in the stage's prefix_search.json
HEADINGS = ("candidate", "tokens", "safety gained", "KL, nats a token", "gain - λ·KL", "accepted", "unjudged", "front")


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of `HEADINGS` for every candidate; a given text that isn't among the first `SHOWN` is shown, too.

    Args:
      found: `report["prefix_search"]`.
    """
    chosen = [row for place, row in enumerate(found["candidates"]) if place < SHOWN or row["given"]]
    return [
        (
            row["text"] + (" (given)" if row["given"] else ""),
            str(row["tokens"]),
            f"{row['gain']:.2f} ± {row['gain_error']:.2f}",
            f"{row['kl']:.2f} ± {row['kl_error']:.2f}",
            f"{row['objective']:.2f}",
            f"{100 * row['safe_rate']:.0f} %",
            f"{100 * row['unscored_rate']:.0f} %",
            "yes" if row["front"] else "",
        )
        for row in chosen
    ]


def note(found: Mapping[str, Any]) -> str:
    """On what the figures rest."""
    places = found["places"]
    told = "on prompts that chose nothing" if found["stage"] == "confirm" else "on the prompts that chose them"
    return (
        f"{found['searched']} candidates searched; λ {found['kl_weight']:g}; {places['harmful']} harmful and "
        f"{places['benign']} benign prompts, {told}; ± standard error over prompts"
    )


def show(found: Mapping[str, Any], title: str, console: rich.console.Console | None = None) -> None:
    """Prints the table."""
    console = console or rich.console.Console(width=None if sys.stdout.isatty() else 140)
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows(found):
        table.add_row(*(rich.text.Text(escaped(cell)) for cell in row))
    console.print(table)
    console.print(note(found), highlight=False, markup=False)


def figure(found: Mapping[str, Any], name: str = "prefix_search") -> Figure:
    """A point a candidate: KL to the right, safety gained upwards; the Pareto front is a line."""
    candidates = found["candidates"]
    front = sorted((row["kl"], row["gain"], row["text"]) for row in candidates if row["front"])
    others = [row for row in candidates if not row["front"]]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.scatter([row["kl"] for row in others], [row["gain"] for row in others], color=COLOURS[0], s=16, alpha=0.6)
        axes.plot([kl for kl, _, _ in front], [gain for _, gain, _ in front], color=COLOURS[1], marker="o")
        for number, row in enumerate(sorted(candidates, key=lambda row: -row["gain"])):
            if row["front"] or row["given"]:
                place = {"xytext": (4, -9 if number % 2 else 4), "textcoords": "offset points", "fontsize": 7}
                axes.annotate(label(row["text"], 32), (row["kl"], row["gain"]), **place)
        axes.set_xlabel("KL on benign prompts, nats a token")
        axes.set_ylabel("safety gained, in R")

    return Figure(name, "Candidates of the prefix search", note(found), draw, (9.0, 5.0))
