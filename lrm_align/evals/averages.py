"""The averages that papers print, by name: which columns they take, and how the paper measures each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.errors import UserError
from lrm_align.evals.statistics import average_interval


class Column(NamedTuple):
    """How the paper measures a benchmark.

    Attributes:
      prompts: how many it asks.
      judge: how the judge's name begins; "" where any checker of answers does.
      part: what the judge reads; "" where the paper does not say.
      samples: of each prompt.
    """

    prompts: int
    judge: str = ""
    part: str = ""
    samples: int = 1


class Average(NamedTuple):
    """A plain mean of columns.

    Attributes:
      title: for tables.
      columns: benchmarks.
      better: "lower" or "higher".
      source: where it is defined.
    """

    title: str
    columns: Mapping[str, Column]
    better: str
    source: str


_HARM = ("Llama-Guard-3-8B", "all")  # section 5.1: the whole response, thinking included
AVERAGES = {
    "thinksafe_safety_average": Average(
        "ThinkSafe safety average (HarmBench, StrongREJECT, WildJailbreak, XSTest refusals)",
        {
            "thinksafe_harmbench": Column(602, *_HARM),
            "strongreject": Column(313, *_HARM),
            "wildjailbreak": Column(2000, *_HARM),
            "xstest": Column(250, "WildGuard"),
        },
        "lower",
        "arXiv 2601.23143, appendix E.3: over-refusal is one of its four columns",
    ),
    "thinksafe_reasoning_average": Average(
        "ThinkSafe reasoning average (AIME24, GSM8K, MATH-500, GPQA)",
        {
            "aime24": Column(30, samples=8),
            "gsm8k": Column(1319, samples=8),
            "math500": Column(500, samples=8),
            "gpqa": Column(198, samples=8),
        },
        "higher",
        "arXiv 2601.23143, table 1; appendix B.1 for the samples",
    ),
}


def check(benchmarks: Mapping[str, str]) -> None:
    """Refuses two sets of one column, of which an average could hold only one.

    Args:
      benchmarks: by set.

    Raises:
      UserError: naming both, where all columns of the average are there.
    """
    names = list(benchmarks.values())
    for average in AVERAGES.values():
        for column in average.columns:
            if names.count(column) > 1 and set(average.columns) <= set(names):
                sets = [set_ for set_, benchmark in benchmarks.items() if benchmark == column]
                raise UserError(
                    f"config.sets: {' and '.join(sets)} are all of benchmark {column}, of which the {average.title} "
                    "takes one; measure the others in a run of their own (--sets=NAME,…)"
                )


def averages(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every average whose columns were all measured, its interval from theirs (`average_interval`).

    Args:
      results: of the sets: `benchmark`, `rate`, `interval`, `judged_prompts`, `judge`, `part`, `samples`; one with a
        rate of None was not measured.

    Returns:
      `{name: {"title", "value", "interval", "better", "columns": {benchmark: rate}, "differs": …, "source"}}`;
      "differs" names the columns that were not measured as the paper does, and in what.

    Raises:
      UserError: as `check`.
    """
    measured = [one for one in results if one["rate"] is not None]
    check({str(number): one["benchmark"] for number, one in enumerate(measured)})
    by_name = {one["benchmark"]: one for one in measured}
    found = {}
    for name, average in AVERAGES.items():
        if not set(average.columns) <= set(by_name):
            continue
        columns = {column: by_name[column] for column in average.columns}
        rates = [one["rate"] for one in columns.values()]
        differs = {column: _differences(one, average.columns[column]) for column, one in columns.items()}
        found[name] = {
            "title": average.title,
            "value": sum(rates) / len(rates),
            "interval": list(average_interval(rates, [one["interval"] for one in columns.values()])),
            "better": average.better,
            "columns": dict(zip(columns, rates, strict=True)),
            "differs": {column: found for column, found in differs.items() if found},
            "source": average.source,
        }
    return found


def _differences(one: Mapping[str, Any], paper: Column) -> list[str]:
    """In what a column was measured otherwise than in the paper."""
    found = []
    if one["judged_prompts"] != paper.prompts:
        found.append(f"{one['judged_prompts']} of {paper.prompts} prompts")
    if not one["judge"].lower().startswith(paper.judge.lower()):
        found.append(f"judge {one['judge'].partition(' model:')[0]}, not {paper.judge}")
    if paper.part and one["part"] != paper.part:
        found.append(f"part {one['part']}, not {paper.part}")
    if one["samples"] != paper.samples:
        found.append(f"{one['samples']} samples, not {paper.samples}")
    return found
