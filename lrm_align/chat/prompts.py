"""Prompts, with what is known about them, from files whose columns a config maps."""

import dataclasses
import hashlib
import inspect
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_align.chat import rows as rows_
from lrm_align.errors import UserError

HARMFUL, BENIGN = "harmful", "benign"
LABELS = (HARMFUL, BENIGN)
FIELDS = ("text", "label", "kind", "id")


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
      id: the same in every run, whatever the order or the limit.
      text: what the user says.
      label: "harmful" or "benign".
      kind: a sub-kind of the label, such as a category or an attack; "" where none is known.
      source: where it is from.
      meta: further columns, as they stood.
    """

    id: str
    text: str
    label: str
    kind: str = ""
    source: str = ""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load(
    path: str,
    *,
    columns: Mapping[str, str | Sequence[str]],
    label: str | None = None,
    harmful_if: str | None = None,
    labels: Mapping[str, str] | None = None,
    kind: str = "",
    source: str | None = None,
    meta: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    where: Mapping[str, Any] | None = None,
    split: str = "train",
    seed: int | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Prompts of one file or `datasets` id.

    Args:
      path: see `rows.read`.
      columns: which column holds "text" (several are joined by a blank line, empty ones left out), and, where there are
        such, "label", "kind" and "id".
      label: one label for every row, instead of a label column.
      harmful_if: a row is harmful if this is part of its label column, else benign (SafeChain's rule: "harmful").
      labels: values of the label column to "harmful" or "benign", for columns that do not hold these words.
      kind: one sub-kind for every row, instead of a kind column.
      source: a short name; the file's stem where None.
      meta: columns to keep in `Prompt.meta`.
      given: what else to put there, for every row: the level of a file of attacks, for example.
      where: keep only rows whose columns hold these values.
      split: of a `datasets` id.
      seed: shuffle with it; the order of the file where None.
      limit: keep so many, after shuffling.

    Raises:
      UserError: a missing file or column, an empty file or text, an unknown label, an id that occurs twice.
    """
    found = rows_.read(path, split)
    _check_mapping(path, columns, label, harmful_if, labels)
    texts = _as_list(columns["text"])
    single = {name: str(columns[name]) for name in FIELDS[1:] if name in columns}
    wanted = [*texts, *single.values(), *meta, *(where or {})]
    source = pathlib.PurePath(path).stem if source is None else source
    prompts = []
    for number, row in enumerate(found, start=1):
        place = f"{path}, row {number}"
        _check_columns(row, wanted, place)
        if any(row[name] != value for name, value in (where or {}).items()):
            continue
        text = _text([row[name] for name in texts], place)
        value = str(row[single["label"]]) if "label" in single else ""
        prompts.append(
            Prompt(
                id=str(row[single["id"]]) if "id" in single else _stable_id(source, number, text),
                text=text,
                label=_label(value, label, harmful_if, labels, place),
                kind=str(row[single["kind"]]) if "kind" in single else kind,
                source=source,
                meta={name: row[name] for name in meta} | dict(given or {}),
            )
        )
    if not prompts:
        raise UserError(f"prompts: no row of {path} has {dict(where or {})}; {len(found)} rows were read")
    _check_distinct(prompts)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(prompts))
        prompts = [prompts[i] for i in order]
    return prompts[:limit]


def load_all(sources: Sequence[Mapping[str, Any]], seed: int | None = None) -> list[Prompt]:
    """The prompts of several sources in order; each is a mapping of `load`'s arguments.

    Args:
      sources: at least `path` and `columns` each.
      seed: for the sources that name none.

    Raises:
      UserError: as `load`, or an unknown argument, or an id that two sources share.
    """
    known = set(inspect.signature(load).parameters)
    prompts: list[Prompt] = []
    for number, arguments in enumerate(sources):
        unknown = sorted(set(arguments) - known)
        missing = sorted({"path", "columns"} - set(arguments))
        if unknown or missing:
            raise UserError(
                f"prompts: source {number}: unknown {unknown}, missing {missing}; known are {', '.join(sorted(known))}"
            )
        prompts += load(**{"seed": seed, **arguments})
    _check_distinct(prompts)
    return prompts


def load_sources(sources: Mapping[str, Mapping[str, Any]], seed: int) -> list[Prompt]:
    """`load_all` for a config: sources by name, each shuffled by the seed before its limit unless it says otherwise."""
    return load_all(list(sources.values()), seed)


def _check_mapping(path, columns, label, harmful_if, labels) -> None:
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown or "text" not in columns:
        raise UserError(f"prompts: {path}: columns maps {sorted(columns)}; expected text and any of {FIELDS[1:]}")
    if (label is None) == ("label" not in columns):
        raise UserError(f"prompts: {path}: give either label={LABELS[0]!r}|{LABELS[1]!r} or columns['label'], not both")
    if label is not None and label not in LABELS:
        raise UserError(f"prompts: {path}: unknown label {label!r}; expected one of {LABELS}")
    if (harmful_if is not None or labels is not None) and label is not None:
        raise UserError(f"prompts: {path}: harmful_if and labels read a label column, but label={label!r} is constant")
    if harmful_if is not None and labels is not None:
        raise UserError(f"prompts: {path}: give harmful_if or labels, not both")
    wrong = sorted(set((labels or {}).values()) - set(LABELS))
    if wrong:
        raise UserError(f"prompts: {path}: labels maps to {wrong}; expected {LABELS}")


def _check_columns(row: rows_.Row, wanted: Sequence[str], place: str) -> None:
    missing = [name for name in wanted if name not in row]
    if missing:
        raise UserError(f"prompts: {place}: missing column {', '.join(missing)}; found {', '.join(row) or 'none'}")


def _check_distinct(prompts: Sequence[Prompt]) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise UserError(f"prompts: id {prompt.id!r} ({prompt.source}) occurs twice; ids must be distinct")
        seen.add(prompt.id)


def _as_list(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _text(parts: Sequence[Any], place: str) -> str:
    if wrong := [part for part in parts if part is not None and not isinstance(part, str)]:
        raise UserError(f"prompts: {place}: the text is a {type(wrong[0]).__name__}; expected a string")
    text = "\n\n".join(part for part in parts if part and part.strip())
    if not text:
        raise UserError(f"prompts: {place}: the text is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"prompts: {place}: undecodable text, a lone surrogate at character {error.start}") from None
    return text


def _label(value: str, label: str | None, harmful_if: str | None, labels: Mapping[str, str] | None, place: str) -> str:
    if label is not None:
        return label
    if harmful_if is not None:
        return HARMFUL if harmful_if in value else BENIGN
    known = labels if labels is not None else {name: name for name in LABELS}
    if value not in known:
        raise UserError(f"prompts: {place}: unknown label {value!r}; expected one of {', '.join(known)}")
    return known[value]


def _stable_id(source: str, row: int, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{source}-{row}-{digest}"
