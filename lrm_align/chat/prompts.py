"""Prompts, with what is known about them, from files whose columns a config maps."""

import dataclasses
import hashlib
import inspect
import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_align import limits
from lrm_align.chat import messages as messages_
from lrm_align.chat import rows as rows_
from lrm_align.errors import UserError
from lrm_align.untrusted import shown

HARMFUL, BENIGN = "harmful", "benign"
LABELS = (HARMFUL, BENIGN)
FIELDS = ("text", "label", "kind", "id", "system")
_DENIED = re.compile(r"(?:^|[^a-z])(?:no|non|not|un|never)[^a-z0-9]*$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: a user's turn, or a conversation that ends with one.

    Attributes:
      id: the same in every run, whatever the order or the limit.
      text: what guards and judges read: the user's turn; of a conversation all but the assistant's turns, a blank line
        between them.
      label: "harmful" or "benign".
      kind: a sub-kind of the label, such as a category or an attack; "" where none is known.
      source: where it is from.
      meta: further columns, as they stood.
      messages: of a conversation; () of a single turn.
    """

    id: str
    text: str
    label: str
    kind: str = ""
    source: str = ""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()

    @property
    def last(self) -> str:
        """The user's turn that is answered."""
        return self.messages[-1]["content"] if self.messages else self.text

    @property
    def turns(self) -> tuple[str, ...]:
        """What an evaluation could ask as well: each turn of the user's, and the whole."""
        return (self.text, *(one["content"] for one in self.messages if one["role"] == "user"))

    def said(self, last: str | None = None) -> list[Mapping[str, Any]]:
        """The conversation, with another last turn where one is given.

        >>> Prompt("a", "Hi", "benign").said("Hello")
        [{'role': 'user', 'content': 'Hello'}]
        """
        return [*self.messages[:-1], {"role": "user", "content": self.last if last is None else last}]

    def record(self) -> dict[str, Any]:
        """What a trace keeps in `meta`: the text, and the messages of a conversation."""
        kept = {"messages": [dict(one) for one in self.messages]} if self.messages else {}
        return {"prompt": self.text, **kept}


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
    subset: str = "",
    seed: int | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Prompts of one file or `datasets` id.

    Args:
      path: see `rows.read`.
      columns: which column holds "text" (several are joined by a blank line, empty ones left out), and, where there are
        such, "label", "kind", "id" and "system". Texts, or conversations as lists of {"role", "content"} that end with
        a user's turn, in CSV and TSV as JSON; not both in one file. A system text stands at the head of either; it is
        read from a column of the name "system" unless another is given, or none, by "".
      label: one label for every row, instead of a label column.
      harmful_if: a row is harmful if its label column has this word, whole and in whatever case, else benign: "harmful"
        is in "vanilla_harmful" (SafeChain's rule) and not in "unharmful". A label that denies it ("non-harmful") is
        refused: `labels` says what is what.
      labels: values of the label column to "harmful" or "benign", for columns that do not hold these words.
      kind: one sub-kind for every row, instead of a kind column.
      source: a short name; the file's stem where None.
      meta: columns to keep in `Prompt.meta`.
      given: what else to put there, for every row: the level of a file of attacks, for example.
      where: keep only rows whose columns hold these values.
      split: of a `datasets` id.
      subset: the config of a `datasets` id that has several.
      seed: shuffle with it; the order of the file where None.
      limit: keep so many, after shuffling; 0 and None keep all.

    Raises:
      UserError: a missing file or column, an empty file or text, an unknown label, an id that occurs twice, a value to
        keep that no record can hold, a negative limit.
    """
    limits.count(limit or 0, f"prompts: {path}: limit")
    found = rows_.read(path, split, subset)
    _check_mapping(path, columns, label, harmful_if, labels)
    texts = _as_list(columns["text"])
    single = {name: str(columns[name]) for name in FIELDS[1:] if columns.get(name)}
    wanted = [*texts, *single.values(), *meta, *(where or {})]
    source = pathlib.PurePath(path).stem if source is None else source
    as_json = pathlib.PurePath(path).suffix.lower() in (".csv", ".tsv")
    if "system" not in {*columns, *texts} and any("system" in row for row in found):
        single["system"] = "system"
        found = [{"system": None, **row} for row in found]
    prompts: list[Prompt] = []
    shapes: set[str] = set()
    for number, row in enumerate(found, start=1):
        place = f"{path}, row {number}"
        _check_columns(row, wanted, place)
        if any(row[name] != value for name, value in (where or {}).items()):
            continue
        _check_kept({name: row[name] for name in meta}, place)
        cells = [row[name] for name in texts]
        if as_json:
            cells = [messages_.in_cell(one, f"prompts: {place}") if isinstance(one, str) else one for one in cells]
        shapes.add("conversations" if any(isinstance(one, list | tuple) for one in cells) else "single turns")
        if len(shapes) > 1:
            raise UserError(f"prompts: {place}: {' and '.join(sorted(shapes))} in one file; expected one of the two")
        messages = _messages(cells, texts, _system(row, single, place), place)
        text = _written(messages) if messages else _text(cells, place)
        value = _cell(row, single, "label")
        prompts.append(
            Prompt(
                id=str(row[single["id"]]) if "id" in single else _stable_id(source, number, _said(messages) or text),
                text=text,
                label=label or _label(value, harmful_if, labels, place),
                kind=_cell(row, single, "kind") if "kind" in single else kind,
                source=source,
                meta={name: row[name] for name in meta} | dict(given or {}),
                messages=messages,
            )
        )
    if not prompts:
        raise UserError(f"prompts: no row of {path} has {dict(where or {})}; {len(found)} rows were read")
    _check_distinct(prompts)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(prompts))
        prompts = [prompts[i] for i in order]
    return limits.first(prompts, limit)


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
    for name, value, kind in (
        ("columns", columns, Mapping),
        ("labels", labels, Mapping),
        ("harmful_if", harmful_if, str),
    ):
        if value is not None and not isinstance(value, kind):
            raise UserError(
                f"prompts: {path}: {name} is {value!r}; expected a {kind.__name__.lower().replace('str', 'word')}"
            )
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
    if harmful_if is not None and not harmful_if.strip():
        raise UserError(f"prompts: {path}: harmful_if is empty, which is part of every label")
    wrong = sorted(set((labels or {}).values()) - set(LABELS))
    if wrong:
        raise UserError(f"prompts: {path}: labels maps to {wrong}; expected {LABELS}")


def _check_columns(row: rows_.Row, wanted: Sequence[str], place: str) -> None:
    missing = [name for name in wanted if name not in row]
    if missing:
        raise UserError(
            f"prompts: {place}: missing column {', '.join(missing)}; found {', '.join(row)[:500] or 'none'}"
        )


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


def _messages(cells: Sequence[Any], columns: Sequence[str], system: str, place: str) -> tuple[Mapping[str, Any], ...]:
    """The conversation of a row; () of a single turn."""
    where = f"prompts: {place}"
    if any(isinstance(cell, list | tuple) for cell in cells):
        if len(cells) > 1:
            raise UserError(f"{where}: columns {', '.join(columns)} are joined; one of them holds a conversation")
        found = messages_.asked(cells[0], columns[0], where)
        return tuple(messages_.with_system(found, system)) if system.strip() else found
    if not system.strip():
        return ()
    return ({"role": "system", "content": system}, {"role": "user", "content": _text(cells, place)})


def _written(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(one["content"] for one in messages if one["role"] in messages_.ASKING and one["content"].strip())


def _said(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that tells one conversation from another."""
    return json.dumps([dict(one) for one in messages], sort_keys=True) if messages else ""


def _cell(row: rows_.Row, single: Mapping[str, str], field: str) -> str:
    """The text of a mapped column; "" of an empty cell, and where there is no such column."""
    value = row[single[field]] if field in single else None
    return "" if value is None else str(value)


def _system(row: rows_.Row, single: Mapping[str, str], place: str) -> str:
    value = row[single["system"]] if "system" in single else None
    if not isinstance(value, str | None):
        raise UserError(f"prompts: {place}: the system text is a {type(value).__name__}; expected a string")
    return value or ""


def _label(value: str, harmful_if: str | None, labels: Mapping[str, str] | None, place: str) -> str:
    known = labels if labels is not None else {name: name for name in LABELS}
    if harmful_if is not None and value.strip():
        return _worded(value, harmful_if, place)
    if value not in known or harmful_if is not None:
        wanted = f"one with or without {harmful_if!r}" if harmful_if is not None else f"one of {', '.join(known)}"
        raise UserError(f"prompts: {place}: unknown label {shown(value)}; expected {wanted}")
    return known[value]


def _worded(value: str, word: str, place: str) -> str:
    """HARMFUL where a label has a word, which no letter or digit continues."""
    found = re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", value, re.IGNORECASE)
    if found and _DENIED.search(value[: found.start()]):
        raise UserError(
            f"prompts: {place}: the label {shown(value)} denies harmful_if={word!r}; say with labels={{…}} which "
            "values are harmful and which benign"
        )
    return HARMFUL if found else BENIGN


def _check_kept(values: Mapping[str, Any], place: str) -> None:
    """What goes into a trace's record must be plain: text, numbers of 64 bits, truth values, lists and objects."""
    for name, value in values.items():
        if not _is_plain(value):
            raise UserError(
                f"prompts: {place}: column {name} is to be kept, and holds {shown(value)}, a {type(value).__name__}; "
                "expected text, a number of 64 bits, a truth value, or lists and objects of these"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, str)


def _stable_id(source: str, row: int, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{source}-{row}-{digest}"
