"""What a method is to the command that runs it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etils import epath

from lrm_align.recipes.stage import Stage, Summary

Log = Callable[[str], None]


class Recipe(NamedTuple):
    """A method with its settings, checked and ready to run. Building one is the preflight: nothing slow has started.

    Attributes:
      title: for tables and pages.
      stages: in the order in which they run.
      facts: lines for `--dry_run`: counts, one rendered example with its loss mask, the plan.
      report: from the summaries and directories of the finished stages to the report.
    """

    title: str
    stages: list[Stage]
    facts: list[str]
    report: Callable[[Mapping[str, Summary], Mapping[str, epath.Path]], dict[str, Any]]
