"""Whatever was measured, of one run or of several, as one list: a model at a moment, its rates, and their intervals."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from lrm_align.evals.statistics import wilson
from lrm_align.pages import comparison, rates
from lrm_align.pages.run import Run

# Rates of safety are better low, those of ability high; the plot of both needs one of each.
ATTACKS = ("attack_success_rate", "wrapped_attack_success_rate")
ABILITY = ("reasoning_accuracy", "accuracy", "fact_accuracy")


class Subject(NamedTuple):
    """A model that was measured.

    Attributes:
      name: of the run where there are several, and of the method or the moment.
      run: number of its run.
      part: the summary of the measurement.
      spread: of the rates over seeds, by name; {} where there is one seed.
      known: intervals that the evaluation computed itself, by name.
    """

    name: str
    run: int
    part: Mapping[str, Any]
    spread: Mapping[str, float]
    known: Mapping[str, tuple[float, float]] = MappingProxyType({})

    def interval(self, name: str) -> tuple[float, float] | None:
        """Of a rate: 95 % by Wilson, or a deviation over seeds; None where neither is known or nothing was counted."""
        value = self.part[name]
        if not rates.is_counted(self.part, name):
            return None
        if name in self.spread:
            return max(0.0, value - self.spread[name]), min(1.0, value + self.spread[name])
        if name in self.known:
            return self.known[name]
        count = self.part.get("counts", {}).get(name)
        return wilson(value, count) if count and rates.is_share(name) else None

    def cell(self, name: str) -> str:
        """A rate as a table shows it."""
        if name not in self.part:
            return "-"
        value = self.part[name]
        if not rates.is_counted(self.part, name):
            return comparison.NOTHING
        if not rates.is_share(name):
            return f"{value:.2f}" + (f" ± {self.spread[name]:.2f}" if name in self.spread else "")
        if name in self.spread:
            return f"{100 * value:.1f} % ± {100 * self.spread[name]:.1f}"
        bounds = self.interval(name)
        return f"{100 * value:.1f} %" + (f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else "")


def of(runs: Sequence[Run]) -> list[Subject]:
    """All that was measured, in the order of the reports."""
    found = []
    for number, run in enumerate(runs):
        front = "" if len(runs) == 1 else f"{run.name}: "
        spread, known = run.report.get("spread", {}), rates.intervals(run.report)
        if "methods" in run.report:
            parts = comparison.subjects(run.report)
        else:
            parts = {name: run.report[name] for name in rates.PARTS if isinstance(run.report.get(name), dict)}
        for name, part in parts.items():
            own = spread.get(name)
            shown = name if "methods" in run.report else name.replace("_", " ")
            title = run.name if front and len(parts) == 1 else front + shown
            found.append(Subject(title, number, part, own if isinstance(own, dict) else {}, known))
    return found


def names(subjects: Sequence[Subject]) -> list[str]:
    """Every rate that any of them has, in the order in which it appears."""
    return list(dict.fromkeys(name for subject in subjects for name in rates.rates(subject.part)))


def safety(subject: Subject) -> str | None:
    """The rate of attacks that the plot of both shows; None where none was measured."""
    found = [name for name in _counted(subject) if "attack_success_rate" in name]
    return ATTACKS[0] if ATTACKS[0] in found else found[0] if found else None


def ability(subject: Subject) -> str | None:
    """The accuracy that the plot of both shows; None where none was measured."""
    found = [name for name in _counted(subject) if name.endswith("_accuracy") or name == "accuracy"]
    return next((name for name in ABILITY if name in found), found[0] if found else None)


def _counted(subject: Subject) -> list[str]:
    return [name for name in rates.rates(subject.part) if rates.is_counted(subject.part, name)]
