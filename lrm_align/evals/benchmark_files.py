"""Prompts of a benchmark out of a file of the user's or a `datasets` id, in whichever published columns it has."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_align import limits
from lrm_align.chat import Prompt, rows
from lrm_align.config import choose
from lrm_align.errors import UserError
from lrm_align.evals import golds
from lrm_align.evals.benchmarks import ANSWER, BENCHMARKS, HARMFUL, Benchmark, Layout

_LABELS = {HARMFUL: "harmful"}


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises:
      UserError: there is none, with the nearest one.
    """
    return choose(name, BENCHMARKS)


def load(
    name: str,
    *,
    path: str = "",
    subset: str = "",
    split: str = "",
    wording: str = "",
    limit: int = 0,
    seed: int | None = None,
) -> list[Prompt]:
    """The prompts of a benchmark; `meta` has the bare "problem" and, where there is one, the known "answer".

    Args:
      name: in `benchmarks.BENCHMARKS`.
      path: a file, or a `datasets` id; the benchmark's own id where "".
      subset: the config of a `datasets` id; the benchmark's own for its own id.
      split: of a `datasets` id; the same.
      wording: the user turn instead of the benchmark's, with the field `{problem}`, and `{choices}` where it has such.
      limit: so many prompts; 0 for all.
      seed: takes those by it, in the file's order; the first ones where None.

    Raises:
      UserError: no such benchmark, file or columns; a negative limit; no row left; a row without a prompt or with
        a gold answer that cannot be read.
    """
    about = benchmark(name)
    limits.count(limit, f"benchmark {name}: limit")
    hub, own_subset, own_split = about.hub
    if not path and not hub:
        raise UserError(f"benchmark {name} is in no `datasets` id that is known here: give the path of its file")
    if not path or path == hub:
        path, subset, split = hub, subset or own_subset, split or own_split
    try:
        found = rows.read(path, split or "train", subset)
    except UserError as error:
        if path != hub:
            raise
        raise UserError(f"benchmark {name}: {error}; or give the path of its file") from None
    layout = _layout(name, about, found[0], path)
    prompts = [
        _prompt(name, about, layout, row, f"benchmark {name}: {path}, row {number}", number, wording)
        for number, row in enumerate(found, start=1)
        if _asked(layout, row, f"benchmark {name}: {path}, row {number}")
    ]
    if not prompts:
        raise UserError(
            f"benchmark {name}: none of the {len(found)} rows of {path} is one of {about.title}; "
            f"is it the file of another split or benchmark?"
        )
    if not limit or seed is None:
        return limits.first(prompts, limit)
    return [prompts[i] for i in sorted(np.random.default_rng(seed).permutation(len(prompts))[:limit].tolist())]


def _layout(name: str, about: Benchmark, row: rows.Row, path: str) -> Layout:
    for layout in about.layouts:
        if set(layout.columns) <= set(row) and set(about.choices) <= set(row):
            return layout
    wanted = " or ".join(", ".join(dict.fromkeys([*layout.columns, *about.choices])) for layout in about.layouts)
    raise UserError(
        f"benchmark {name}: {path} has the columns {', '.join(row) or 'none'}; its published files have {wanted}"
    )


def _asked(layout: Layout, row: rows.Row, place: str) -> bool:
    missing = [column for column in layout.columns if column not in row]
    if missing:
        raise UserError(f"{place}: missing column {', '.join(missing)}; the first row has it")
    return layout.where is None or layout.where(row)


def _prompt(
    name: str, about: Benchmark, layout: Layout, row: rows.Row, place: str, number: int, wording: str
) -> Prompt:
    problem = row[layout.text]
    if not isinstance(problem, str) or not problem.strip():
        raise UserError(f"{place}: the prompt in column {layout.text} is empty or no text, {problem!r}")
    problem = problem.strip()
    digest = hashlib.sha256(problem.encode("utf-8", "replace")).hexdigest()[:8]
    # The row of the file is part of the name: benchmarks ask some prompts twice.
    id = f"{name}-{number:04d}-{digest}"
    meta: dict[str, Any] = {"problem": problem, "benchmark": name}
    listed = ""
    if about.choices:
        if empty := [column for column in about.choices if not str(row.get(column) or "").strip()]:
            raise UserError(f"{place}: the choice in column {', '.join(empty)} is empty")
        choices = golds.shuffled([row[column] for column in about.choices], id)
        row = {**row, "choices": choices}
        listed = "\n".join(f"{letter}) {str(choice).strip()}" for letter, choice in zip(golds.LETTERS, choices))
    if about.gold is not None:
        meta["answer"] = about.gold(row[layout.gold], row, place)
    text = _worded(wording or about.wording, problem, listed, name)
    kind = "" if not layout.kind or row[layout.kind] is None else str(row[layout.kind])
    return Prompt(id, text, _LABELS.get(about.aim, "benign"), kind, name, meta)


def _worded(wording: str, problem: str, choices: str, name: str) -> str:
    try:
        # The problem goes in last: its own braces are no fields.
        return wording.format(problem="\0", choices="\1").replace("\1", choices).replace("\0", problem)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"benchmark {name}: the wording {wording[:60]!r} is no template: {error}; its fields are "
            "{problem} and {choices}, and other braces are doubled"
        ) from None


def check_answers(prompts: Sequence[Prompt], where: str) -> None:
    """Refuses prompts without a known answer, where answers are what is judged.

    Raises:
      UserError: naming the first.
    """
    for prompt in prompts:
        if "answer" not in prompt.meta:
            raise UserError(f"{where}: prompt {prompt.id!r} has no meta['answer'], which aim={ANSWER!r} compares with")
