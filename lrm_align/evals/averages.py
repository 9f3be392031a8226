"""The averages that papers print, by name: which columns they take, and over how many prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.evals.statistics import bootstrap_average


class Average(NamedTuple):
    """A plain mean of columns.

    Attributes:
      title: for tables.
      columns: benchmarks, each with the prompts that the paper asks.
      better: "lower" or "higher".
      source: where it is defined.
    """

    title: str
    columns: Mapping[str, int]
    better: str
    source: str


AVERAGES = {
    "thinksafe_safety_average": Average(
        "ThinkSafe safety average (HarmBench, StrongREJECT, WildJailbreak, XSTest refusals)",
        {"thinksafe_harmbench": 602, "strongreject": 313, "wildjailbreak": 2000, "xstest": 250},
        "lower",
        "arXiv 2601.23143, appendix E.3: over-refusal is one of its four columns",
    ),
    "thinksafe_reasoning_average": Average(
        "ThinkSafe reasoning average (AIME24, GSM8K, MATH-500, GPQA)",
        {"aime24": 30, "gsm8k": 1319, "math500": 500, "gpqa": 198},
        "higher",
        "arXiv 2601.23143, table 1",
    ),
}


def averages(rates: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Every average whose columns were all measured, with a bootstrap interval over the prompts of each column.

    >>> found = averages({"thinksafe_harmbench": [0.0, 1.0], "strongreject": [0.0], "wildjailbreak": [1.0, 0.0],
    ...                   "xstest": [0.0]})
    >>> found["thinksafe_safety_average"]["value"], sorted(found)
    (0.25, ['thinksafe_safety_average'])

    Args:
      rates: by benchmark, one value a prompt: the mean over its judged samples.

    Returns:
      `{name: {"title", "value", "interval", "better", "columns": {benchmark: mean}, "short": …, "source"}}`; "short"
      names the columns that were measured on other numbers of prompts than the paper's.
    """
    found = {}
    for name, average in AVERAGES.items():
        columns = {column: rates.get(column, ()) for column in average.columns}
        if not all(len(values) for values in columns.values()):
            continue
        means = {column: sum(values) / len(values) for column, values in columns.items()}
        found[name] = {
            "title": average.title,
            "value": sum(means.values()) / len(means),
            "interval": list(bootstrap_average(list(columns.values()))),
            "better": average.better,
            "columns": means,
            "short": {c: len(v) for c, v in columns.items() if len(v) != average.columns[c]},
            "source": average.source,
        }
    return found
