"""The rates of a report: what was measured, with its intervals, and several seeds as one."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.evals.statistics import mean_and_spread, wilson
from lrm_align.pages import comparison
from lrm_align.pages.comparison import NOTHING

Report = dict[str, Any]


_RATES = ("_rate", "accuracy", "_rate_risky", "_rate_general")
_CORRELATION = "_correlation"
_SHOWN = (*_RATES, _CORRELATION)
# Of a report; "offered" (with a tool, untrained) and "after_sft" belong to methods that have them, "measured" to an
# evaluation of one model.
PARTS = ("before", "offered", "after_sft", "after", "measured")
# Rates of the untrained model alone, and what the page calls them.
ALONE = {
    "steered_attack_success_rate": "attack success when steered",
    "risk_identification_rate": "risks named in its own reasoning, of successful attacks",
}


def rates(part: Mapping[str, Any]) -> dict[str, float]:
    """The rates and correlations of one half of a report, by name."""
    return {name: value for name, value in part.items() if isinstance(value, float) and name.endswith(_SHOWN)}


def is_counted(part: Mapping[str, Any], name: str) -> bool:
    """Whether a rate is of anything: of a guard that never decides there is none, and surely not 0 %."""
    return part.get("counts", {}).get(name) != 0


def is_share(name: str) -> bool:
    """Whether a figure is a share of something counted; a correlation is none."""
    return name.endswith(_RATES)


def parts(report: Report) -> list[str]:
    """The measurements that a table has a column for: before, after, and after the first stage if there is one."""
    return [name for name in PARTS if name in report] or ["before", "after"]


def intervals(report: Report) -> dict[str, tuple[float, float]]:
    """The intervals that an evaluation computed itself, by rate: of several samples a prompt Wilson's is too narrow."""
    return {name: tuple(one["interval"]) for name, one in _results(report).items() if one.get("interval")}


def _results(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What an evaluation found, by rate."""
    results = (report.get("evaluation") or {}).get("results", [])
    return {f"{one['set']}_{one['metric']}": one for one in results}


def rows(report: Report) -> list[tuple[str, ...]]:
    """(name, a cell for each of `parts`, n) of every rate that was measured; avg@k stands with the name of one."""
    measured = {name: report.get(name, {}) for name in parts(report)}
    counts = {name: count for part in measured.values() for name, count in part.get("counts", {}).items()}
    spread, known = report.get("spread", {}), intervals(report)

    def shown(half: str, part: Mapping[str, Any], name: str) -> str:
        if name not in part:
            return "-"
        if not is_counted(part, name):
            return NOTHING
        if name.endswith(_CORRELATION):
            return f"{part[name]:.2f} ± {spread[half][name]:.2f}" if half in spread else f"{part[name]:.2f}"
        text = f"{100 * part[name]:.1f} %"
        if half in spread:
            return f"{text} ± {100 * spread[half][name]:.1f}"
        low, high = known.get(name) or wilson(part[name], counts.get(name, 0))
        return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if name in counts else text

    names = dict.fromkeys(name for part in measured.values() for name in rates(part))
    estimates = {name: one["estimate"] for name, one in _results(report).items() if one.get("estimate")}
    return [
        (
            f"{name} ({estimates[name]})" if name in estimates else name,
            *(shown(half, part, name) for half, part in measured.items()),
            str(counts.get(name, "-")),
        )
        for name in names
    ]


def combine(reports: Sequence[Report]) -> Report:
    """One report of several seeds: means in each of `parts`, sample deviations in `spread`."""
    if "methods" in reports[0]:
        return comparison.combine(reports)
    combined: Report = {**reports[0], "seeds": list(reports), "spread": {}}
    for half in PARTS:
        if any(half not in report for report in reports):
            continue
        halves = [report[half] for report in reports]
        statistics = {}
        for name in rates(halves[0]):  # of the seeds in which anything was counted, if there are any
            some = [one[name] for one in halves if is_counted(one, name)]
            statistics[name] = mean_and_spread(some or [one[name] for one in halves])
        combined[half] = {name: mean for name, (mean, _) in statistics.items()}
        combined[half]["counts"] = {
            name: sum(report[half]["counts"][name] for report in reports) for name in reports[0][half]["counts"]
        }
        combined["spread"][half] = {name: spread for name, (_, spread) in statistics.items()}
    for name in ALONE:
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
    if "preference" in reports[0].get("training", {}):
        combined["training"] = {"preference": _means([report["training"]["preference"] for report in reports])}
    if "depth" in reports[0]:
        curves = [dict(report["depth"]["depth"]) for report in reports]
        spread = [mean_and_spread([curve[m] for curve in curves])[1] for m in curves[0]]
        combined["depth"] = {"depth": [[m, value] for m, value in _means(curves).items()], "spread": spread}
        if all(None not in report["depth"].get("counts", [None]) for report in reports):
            counts = zip(*(report["depth"]["counts"] for report in reports), strict=True)
            combined["depth"]["counts"] = [sum(some) for some in counts]
    if "cost" in reports[0]:
        combined["cost"] = _means([report["cost"] for report in reports])
        combined["cost"]["prompts"] = sum(report["cost"]["prompts"] for report in reports)
    return combined


def _means(found: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    return {name: mean_and_spread([one[name] for one in found])[0] for name in found[0]}


def facts(report: Report) -> list[str]:
    """What a report says beside its rates, a line each; as the run wrote it, and so perhaps hostile."""
    alone = [(title, name) for name, title in ALONE.items() if name in report]
    lines = [f"of the untrained model: {title}: {_alone(report, name)}" for title, name in alone]
    if "traces" in report:
        found = report["traces"]
        lines.append(f"traces: kept {_counts(found['kept'])}; dropped {_counts(found['dropped'])}")
        lines += [f"warning: {warning}" for warning in found.get("warnings", [])]
    if "disjoint" in report:
        lines.append(_disjoint(report["disjoint"]))
    if "preference" in report.get("training", {}):
        values = ", ".join(f"{name} {value:.3f}" for name, value in report["training"]["preference"].items())
        lines.append(f"pairs at the end of training: {values}")
    for half in ("before", "after"):
        lines += [f"warning: {warning}" for warning in report.get(half, {}).get("warnings", [])]
    if "depth" in report:
        curve = ", ".join(f"{m}: {_with(rate, bounds)}" for m, rate, bounds in depth(report))
        lines.append(f"attack success by the early steps that the defence may steer: {curve}")
    if "cost" in report:
        cost = report["cost"]
        lines.append(
            f"what the defence costs {cost['prompts']} prompts that need none: {cost['benign_tokens_ratio']:.2f} times "
            f"the tokens, {cost['benign_seconds_ratio']:.2f} times the seconds, guard included"
        )
    return lines


def depth(report: Report) -> list[tuple[int, float | None, tuple[float, float] | None]]:
    """(steps, rate, interval or deviation over seeds) of the depth curve.

    The rate is None where nothing was judged, the interval where a report of old keeps no counts.
    """
    found = report["depth"]
    spread, counts = found.get("spread"), found.get("counts")
    made: list[tuple[int, float | None, tuple[float, float] | None]] = []
    for number, (m, rate) in enumerate(found["depth"]):
        if counts and counts[number] == 0:
            made.append((m, None, None))
        elif spread:
            made.append((m, rate, (max(0.0, rate - spread[number]), min(1.0, rate + spread[number]))))
        else:
            made.append((m, rate, wilson(rate, counts[number]) if counts and counts[number] else None))
    return made


def _with(rate: float | None, bounds: tuple[float, float] | None) -> str:
    if rate is None:
        return NOTHING
    return f"{100 * rate:.1f} %" + (f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else "")


def _alone(report: Report, name: str) -> str:
    if name == "risk_identification_rate" and "risk_identification_count" in report:
        count = report["risk_identification_count"]
        return _with(report[name], wilson(report[name], count)) if count else NOTHING
    return _with(report[name], None)


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "none"


def _disjoint(found: Mapping[str, Any]) -> str:
    def counted(side: str) -> str:
        return ", ".join(f"{count} in {name}" for name, count in found[side].items())

    return (
        f"training prompts that the evaluation asks: {found['shared']} (of {counted('trained')}; asked are "
        f"{counted('evaluated')}; compared by {found['hash']})"
    )
