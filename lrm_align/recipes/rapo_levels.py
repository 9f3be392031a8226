"""How complex each prompt of RAPO's first stage is: by a column of the data, or as the model rates it.

The authors' code takes the number of StrataSword's file for harmful prompts and 1 for whatever has no such column; a
later state of it has a rating prompt. What a prompt of a kind in `without` gets is no analysis at all (ours): the model
goes on from the bare prompt, so that sums and facts are not taught to begin with safety.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.scoring import Score, rapo
from lrm_align.scoring.judge import Ask
from lrm_align.scoring.levels import Levels

COLUMN, JUDGED = "column", "judged"
NO_ANALYSIS, UNKNOWN = 0, 1
HARMFUL = "harmful"


def check(settings: Mapping[str, Any]) -> None:
    """Looks at `config.levels`.

    Raises:
      UserError: an unknown source.
    """
    if settings["source"] not in (COLUMN, JUDGED):
        raise UserError(f"config.levels.source is {settings['source']!r}; it is {COLUMN!r} or {JUDGED!r}")


def by_column(prompts: Sequence[Prompt], settings: Mapping[str, Any]) -> dict[str, int]:
    """The level of each prompt by its id: its column's, 1 where it has none, 0 for kinds without analysis.

    >>> settings = {"column": "level", "without": ("arithmetic",)}
    >>> prompts = [Prompt("a", "?", "harmful", meta={"level": "3"}), Prompt("b", "?", "benign"),
    ...            Prompt("c", "1+1?", "benign", "arithmetic")]
    >>> by_column(prompts, settings)
    {'a': 3, 'b': 1, 'c': 0}

    Raises:
      UserError: a column that holds no level.
    """
    return {prompt.id: _level(prompt, settings["column"], settings["without"]) for prompt in prompts}


def rated(
    prompts: Sequence[Prompt], settings: Mapping[str, Any], levels: Levels, ask: Ask
) -> tuple[dict[str, int], dict[str, int]]:
    """As `by_column`, but the model says how complex the harmful prompts are.

    Args:
      prompts: to rate.
      settings: `config.levels`.
      levels: of the table.
      ask: the model.

    Returns:
      the levels that are known, by id; and how many harmful prompts have none, by the reason. These are left out.
    """
    found = by_column([prompt for prompt in prompts if not _is_rated(prompt, settings)], settings)
    asked = [prompt for prompt in prompts if _is_rated(prompt, settings)]
    replies = ask([rapo.level_question(prompt.text, levels) for prompt in asked])
    unknown: dict[str, int] = {}
    for prompt, reply in zip(asked, replies, strict=True):
        score: Score = rapo.read_level(reply)
        if score.value is None:
            reason = score.reason or ""
            unknown[reason] = unknown.get(reason, 0) + 1
        else:
            found[prompt.id] = int(score.value)
    return found, unknown


def _is_rated(prompt: Prompt, settings: Mapping[str, Any]) -> bool:
    return prompt.label == HARMFUL and prompt.kind not in settings["without"]


def _level(prompt: Prompt, column: str, without: Sequence[str]) -> int:
    if prompt.kind in without:
        return NO_ANALYSIS
    value = prompt.meta.get(column)
    if value is None:
        return UNKNOWN
    try:
        level = int(str(value))
    except ValueError:
        level = -1
    if level < 0:
        raise UserError(
            f"config.levels.column: prompt {prompt.id!r} has {column} {value!r}; wanted a whole number from 1 up, or 0 "
            "for no analysis"
        )
    return level
