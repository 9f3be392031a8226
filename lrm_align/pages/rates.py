"""The rates of a report: what was measured, with its intervals, and several seeds as one."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.evals.statistics import mean_and_spread, wilson
from lrm_align.pages import comparison

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


def is_share(name: str) -> bool:
    """Whether a figure is a share of something counted; a correlation is none."""
    return name.endswith(_RATES)


def parts(report: Report) -> list[str]:
    """The measurements that a table has a column for: before, after, and after the first stage if there is one."""
    return [name for name in PARTS if name in report] or ["before", "after"]


def intervals(report: Report) -> dict[str, tuple[float, float]]:
    """The intervals that an evaluation computed itself, by rate: of several samples a prompt Wilson's is too narrow."""
    results = (report.get("evaluation") or {}).get("results", [])
    return {f"{one['set']}_{one['metric']}": tuple(one["interval"]) for one in results if one.get("interval")}


def rows(report: Report) -> list[tuple[str, ...]]:
    """(name, a cell for each of `parts`, n) of every rate that was measured."""
    measured = {name: report.get(name, {}) for name in parts(report)}
    counts = {name: count for part in measured.values() for name, count in part.get("counts", {}).items()}
    spread, known = report.get("spread", {}), intervals(report)

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
        low, high = known.get(name) or wilson(part[name], counts.get(name, 0))
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
    for half in PARTS:
        if any(half not in report for report in reports):
            continue
        names = rates(reports[0][half])
        statistics = {name: mean_and_spread([report[half][name] for report in reports]) for name in names}
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
        combined["depth"] = {"depth": [[m, value] for m, value in _means(curves).items()]}
    if "cost" in reports[0]:
        combined["cost"] = _means([report["cost"] for report in reports])
        combined["cost"]["prompts"] = sum(report["cost"]["prompts"] for report in reports)
    return combined


def _means(found: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    return {name: mean_and_spread([one[name] for one in found])[0] for name in found[0]}


def facts(report: Report) -> list[str]:
    """What a report says beside its rates, a line each; as the run wrote it, and so perhaps hostile."""
    alone = [(title, report[name]) for name, title in ALONE.items() if name in report]
    lines = [f"of the untrained model: {title}: {100 * rate:.1f} %" for title, rate in alone]
    if "traces" in report:
        found = report["traces"]
        lines.append(f"sampled traces: kept {_counts(found['kept'])}; dropped {_counts(found['dropped'])}")
    if "disjoint" in report:
        lines.append(_disjoint(report["disjoint"]))
    if "preference" in report.get("training", {}):
        values = ", ".join(f"{name} {value:.3f}" for name, value in report["training"]["preference"].items())
        lines.append(f"pairs at the end of training: {values}")
    if "depth" in report:
        curve = ", ".join(f"{m}: {100 * rate:.1f} %" for m, rate in report["depth"]["depth"])
        lines.append(f"attack success by the early steps that the defence may steer: {curve}")
    if "cost" in report:
        cost = report["cost"]
        lines.append(
            f"what the defence costs {cost['prompts']} prompts that need none: {cost['benign_tokens_ratio']:.2f} times "
            f"the tokens, {cost['benign_seconds_ratio']:.2f} times the seconds, guard included"
        )
    return lines


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "none"


def _disjoint(found: Mapping[str, Any]) -> str:
    def counted(side: str) -> str:
        return ", ".join(f"{count} in {name}" for name, count in found[side].items())

    return (
        f"training prompts that the evaluation asks: {found['shared']} (of {counted('trained')}; asked are "
        f"{counted('evaluated')}; compared by {found['hash']})"
    )
