"""Which plots there are of one run, or of several side by side; one that has nothing to show is left out."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_align.evals.statistics import wilson
from lrm_align.pages import rates as rates_
from lrm_align.pages import subjects as subjects_
from lrm_align.pages import words
from lrm_align.pages.curves import Line, panels
from lrm_align.pages.drawing import COLOURS, MARKERS, Figure, label
from lrm_align.pages.run import Run
from lrm_align.pages.shelves import Shelf
from lrm_align.pages.subjects import Subject

_WIDE = 9.0  # inches
_SIGNS = ("consult", "trigger", "inject", "tool", "malformed")  # of rates that say how often a method stepped in
_DASHES = ("-", "--", ":", "-.")
_REASONS = 16  # bars of one kind; rarer ones are one bar
_LINEAR_BELOW = 1.0  # per cent, of the logarithmic axis


def figures(runs: Sequence[Run], shelves: Sequence[Shelf], stepped_in: dict[str, tuple[int, int]]) -> list[Figure]:
    """All plots.

    Args:
      runs: what workdirs hold.
      shelves: where their traces lie.
      stepped_in: `book.stepped_in` of the traces.
    """
    found = subjects_.of(runs)
    made = [
        rates(found, [name for name in subjects_.names(found) if not _is_sign(name)]),
        *([] if any("methods" in run.report for run in runs) and len(runs) == 1 else [scatter(found)]),
        signs(found, stepped_in),
        depth(runs),
        *searches(runs),
        drops(runs),
        training(panels(runs)),
        lengths(shelves),
        rewards(shelves),
    ]
    return [figure for figure in made if figure is not None]


def rates(found: Sequence[Subject], names: Sequence[str], name: str = "rates") -> Figure | None:
    """A row a rate, a point a subject, with its interval."""
    shown = [n for n in names if any(subject.interval(n) for subject in found if n in subject.part)]
    if not shown:
        return None
    step = 0.8 / max(len(found), 1)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for number, subject in enumerate(found):
            rows = [(i, n) for i, n in enumerate(shown) if n in subject.part and subject.interval(n)]
            at = [i + step * (number - (len(found) - 1) / 2) for i, _ in rows]
            value = [100 * subject.part[n] for _, n in rows]
            bounds = [subject.interval(n) or (0.0, 0.0) for _, n in rows]
            bars = [[max(0.0, v - 100 * low) for v, (low, _) in zip(value, bounds)]]
            bars += [[max(0.0, 100 * high - v) for v, (_, high) in zip(value, bounds)]]
            axes.errorbar(
                value, at, xerr=bars, fmt=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
                markersize=5, elinewidth=1.2, label=label(subject.name),
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [label(n.replace("_", " ")) for n in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("%")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    height = 0.9 + len(shown) * max(0.34, 0.14 * len(found))
    what = "deviations over seeds" if any(subject.spread for subject in found) else "95 % intervals"
    return Figure(name, "Rates", f"Bars are {what}.", draw, (_WIDE, height))


def scatter(found: Sequence[Subject]) -> Figure | None:
    """Safety against reasoning, a point a subject, and a line from a run's first to its last."""
    points = [(s, subjects_.safety(s), subjects_.ability(s)) for s in found]
    usable = [(s, x, y) for s, x, y in points if x is not None and y is not None]
    if not usable:
        return None
    axes_names = {x for _, x, _ in usable}, {y for _, _, y in usable}

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for run in dict.fromkeys(s.run for s, _, _ in usable):
            own = [(100 * s.part[x], 100 * s.part[y]) for s, x, y in usable if s.run == run]
            axes.plot(*zip(*own), color="#999999", linewidth=0.8, zorder=1)
        for number, (subject, x, y) in enumerate(usable):
            at = 100 * subject.part[x], 100 * subject.part[y]
            axes.errorbar(
                [at[0]], [at[1]], xerr=_bar(subject, x), yerr=_bar(subject, y), fmt=MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)], markersize=8, elinewidth=0.8, label=label(subject.name),
            )  # fmt: skip
        axes.set_xscale("symlog", linthresh=_LINEAR_BELOW)
        axes.set_xlim(130, -0.2)
        ticks = [0, 1, 3, 10, 30, 100]
        axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
        axes.set_xlabel(f"{_one(axes_names[0])} (safer to the right)")
        axes.set_ylabel(f"{_one(axes_names[1])}, %")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return Figure("safety_reasoning", "Safety against reasoning", "Better is up and to the right.", draw, (_WIDE, 4.2))


def signs(found: Sequence[Subject], stepped_in: dict[str, tuple[int, int]]) -> Figure | None:
    """How often a method consulted, triggered or had something injected: rates of reports, and shares of traces."""
    bars: list[tuple[str, float, tuple[float, float] | None]] = [
        (f"{subject.name}: {name.replace('_', ' ')}", subject.part[name], subject.interval(name))
        for subject in found
        for name in subjects_.names([subject])
        if _is_sign(name)
    ]
    for subject in found:
        for name, did in (subject.part.get("interventions") or {}).items():
            counts = did.get("counts", {})  # reports of old have none
            for n, rate in did.items():
                if n != "counts":
                    bounds = wilson(rate, counts[n]) if counts.get(n) else None
                    bars.append((f"{subject.name}, {name}: {n.replace('_', ' ')}", rate, bounds))
    bars += [(name, some / count, wilson(some / count, count)) for name, (some, count) in stepped_in.items() if count]
    if not bars:
        return None

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        value = [100 * v for _, v, _ in bars]
        low = [max(0.0, 100 * (v - b[0])) if b else 0.0 for _, v, b in bars]
        high = [max(0.0, 100 * (b[1] - v)) if b else 0.0 for _, v, b in bars]
        axes.barh(
            range(len(bars)), value, xerr=[low, high], color=COLOURS[0], ecolor="#222222", height=0.62, alpha=0.75
        )
        axes.set_yticks(range(len(bars)), [label(name, 64) for name, _, _ in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, 102)
        axes.set_xlabel("%")

    says = "Rates of the reports, and shares of the traces with injected or tool tokens; bars are 95 % intervals."
    return Figure("stepped_in", "Consult, trigger and injection rates", says, draw, (_WIDE, 0.9 + 0.26 * len(bars)))


def depth(runs: Sequence[Run]) -> Figure | None:
    """Attack success for each number of early steps that a defence may steer."""
    curves = {run.name: rates_.depth(run.report) for run in runs if (run.report.get("depth") or {}).get("depth")}
    found = {
        name: [(m, rate, bounds or (rate, rate)) for m, rate, bounds in curve if rate is not None]
        for name, curve in curves.items()
    }
    if not any(found.values()):
        return None

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for number, (name, curve) in enumerate(found.items()):
            steps, value = [m for m, _, _ in curve], [100 * rate for _, rate, _ in curve]
            bars = [[max(0.0, 100 * (rate - low)) for _, rate, (low, _) in curve]]
            bars += [[max(0.0, 100 * (high - rate)) for _, rate, (_, high) in curve]]
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.errorbar(steps, value, yerr=bars, label=label(name), elinewidth=0.9, capsize=2, **style)
        axes.set_xlabel("early steps that may be steered")
        axes.set_ylabel("attack success, %")
        axes.set_ylim(bottom=0)
        if len(found) > 1:
            axes.legend()

    return Figure(
        "depth",
        "Depth of steering",
        "Attack success by the number of early steps that the defence may steer; bars are 95 % intervals, or "
        "deviations over seeds.",
        draw,
        (6.0, 3.4),
    )


def searches(runs: Sequence[Run]) -> list[Figure]:
    """Safety gained against KL, a plot a prefix search."""
    found = [run.report["prefix_search"] for run in runs if "prefix_search" in run.report]
    return [words.figure(one, f"prefix_search_{i}" if i else "prefix_search") for i, one in enumerate(found)]


def drops(runs: Sequence[Run]) -> Figure | None:
    """What became of the traces: kept by label, dropped by reason."""
    bars: list[tuple[str, int, bool]] = []
    for run in runs:
        front = "" if len(runs) == 1 else f"{run.name}: "
        found = run.report.get("traces")
        if isinstance(found, dict):
            for what in ("kept", "dropped"):
                counts = collections.Counter(found.get(what) or {}).most_common()
                bars += [(f"{front}{what}: {name}", count, what == "kept") for name, count in counts[:_REASONS]]
                rest = [count for _, count in counts[_REASONS:]]
                bars += [(f"{front}{what}: {len(rest)} more reasons", sum(rest), what == "kept")] if rest else []
    if not bars:
        return None

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        colours = [COLOURS[2] if kept else COLOURS[1] for _, _, kept in bars]
        drawn = axes.barh(range(len(bars)), [count for _, count, _ in bars], color=colours, height=0.62, alpha=0.8)
        axes.bar_label(drawn, padding=3)
        axes.set_yticks(range(len(bars)), [label(name, 64) for name, _, _ in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.set_xlabel("traces")

    says = "Traces that were kept for training, and why others were dropped."
    return Figure("drop_reasons", "Kept and dropped", says, draw, (_WIDE, 0.9 + 0.28 * len(bars)))


def training(found: dict[str, list[Line]]) -> Figure | None:
    """A panel a metric, a line a run and stage."""
    if not found:
        return None
    names = list(dict.fromkeys(line.name for lines in found.values() for line in lines))
    columns = 3
    height = -(-len(found) // columns)

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(height, columns, squeeze=False)
        for axes in list(grid.flat)[len(found) :]:
            axes.axis("off")
        for axes, (metric, lines) in zip(grid.flat, found.items()):
            for line in lines:
                style = {"color": COLOURS[names.index(line.name) % len(COLOURS)], "linewidth": 1.1}
                marker = "." if len(line.steps) < 4 else ""
                axes.plot(line.steps, line.values, label=label(line.name), marker=marker, **style)
            axes.set_title(label(metric), fontsize=9)
            axes.tick_params(labelsize=7)
            axes.locator_params(nbins=4)
        handles = {one.get_label(): one for axes in grid.flat for one in axes.get_lines()}
        canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)

    size = (_WIDE, 1.7 * height + 0.3 + 0.2 * -(-len(names) // 3))
    return Figure("training", "Training curves", "Against the step.", draw, size)


def lengths(shelves: Sequence[Shelf]) -> Figure | None:
    """Tokens of completions, a histogram for each method and stage."""
    sizes: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for shelf in shelves:
        if shelf.shards:
            sizes[f"{shelf.method}: {shelf.stage.replace('_', ' ')}"].append(shelf.lengths[:, 1])
    found = {name: np.concatenate(some) for name, some in sizes.items()}
    return _histogram("lengths", "Lengths of completions", "tokens", found)


def rewards(shelves: Sequence[Shelf]) -> Figure | None:
    """Rewards of the rollouts that were kept for people to read."""
    found = {
        f"{shelf.method}: {shelf.stage}": np.array(values, float)
        for shelf in shelves
        if (values := [row["reward"] for row in shelf.rows if isinstance(row.get("reward"), (int, float))])
    }
    return _histogram("rewards", "Rewards of the rollouts kept", "reward", found)


def _histogram(name: str, title: str, unit: str, found: dict[str, np.ndarray]) -> Figure | None:
    if not any(values.size for values in found.values()):
        return None
    everything = np.concatenate(list(found.values()))
    # A few answers at the limit would leave all others in one bin.
    low, high = float(everything.min()), float(np.quantile(everything, 0.995))
    edges = np.linspace(low, max(high, low + 1e-6), 31)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for number, (which, values) in enumerate(found.items()):
            share = np.histogram(np.clip(values, low, edges[-1]), edges)[0] / max(values.size, 1)
            dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": dashes, "linewidth": 1.3}
            axes.stairs(100 * share, edges, label=label(f"{which} ({values.size})", 56), **style)
        axes.set_xlabel(unit)
        axes.set_ylabel("% of the samples")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    says = "Shares of the samples; the last bin holds the longest half per cent." if name == "lengths" else "Shares."
    return Figure(name, title, says, draw, (_WIDE, max(3.4, 0.9 + 0.17 * len(found))))


def _is_sign(name: str) -> bool:
    return any(sign in name for sign in _SIGNS)


def _bar(subject: Subject, name: str) -> list[list[float]] | None:
    bounds, value = subject.interval(name), subject.part[name]
    if bounds is None:
        return None
    return [[100 * max(0.0, value - bounds[0])], [100 * max(0.0, bounds[1] - value)]]


def _one(names: set[str]) -> str:
    return " or ".join(sorted(name.replace("_", " ") for name in names))
