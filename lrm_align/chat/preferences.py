"""Preference pairs from files: a prompt, an answer that is preferred, and one that is not."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align.chat import rows as rows_
from lrm_align.chat import thinking
from lrm_align.chat.chat import ROLES
from lrm_align.errors import UserError

COLUMNS = ("prompt", "chosen", "rejected", "label", "id")
EQUAL, EMPTY = "equal answers", "empty side"
PARTED, UNCLOSED = "conversations differ before their last answer", "thinking not closed"


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """One pair.

    Attributes:
      id: the same in every run, whatever the order or the limit.
      messages: the conversation up to the answer.
      chosen, rejected: the two answers, thoughts included.
      label: "harmful", "benign", or "" where none is known.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    chosen: str
    rejected: str
    label: str = ""


class Preferences(NamedTuple):
    """What a file held.

    Attributes:
      kept: sound pairs.
      skipped: how many rows were left out, by reason.
      first: for each reason the first such row.
    """

    kept: list[Preference]
    skipped: dict[str, int]
    first: dict[str, str]


def load(
    path: str,
    *,
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    label: str = "",
    seed: int | None = None,
    limit: int = 0,
) -> Preferences:
    """Pairs of a file or `datasets` id, in the forms that other trainers read.

    The answers are strings, or lists of {"role", "content"} messages that end with the assistant's. A list may hold the
    answer alone, beside a prompt column, or the whole conversation, whose beginning is then the prompt; a prompt column
    must agree with it. The prompt is a string, which is one user turn, or a list of messages. In CSV and TSV a cell may
    hold such a list as JSON. An answer with `</think>` in it is split there into thought and answer.

    Left out and counted, never in silence: rows with an empty answer ("empty side"), with equal answers, with a thought
    that is opened and not closed, and conversations that part before their last message. Everything else that is
    wrong is an error that names the row.

    Args:
      path: see `rows.read`.
      columns: names of the columns, where they are not "prompt", "chosen" and "rejected"; "label" ("harmful" or
        "benign", as tags) and "id" are read only where they are named here.
      split: of a `datasets` id.
      label: one label for every row, instead of a label column.
      seed: shuffle with it; the order of the file where None.
      limit: keep so many, after shuffling; 0 keeps all.

    Raises:
      UserError: a missing file or column, a wrong type or role, an id that occurs twice, or no pair that is left.
    """
    named = _columns(path, columns or {}, label)
    source, as_json = pathlib.PurePath(path).stem, pathlib.PurePath(path).suffix.lower() in (".csv", ".tsv")
    kept: list[Preference] = []
    skipped: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    for number, row in enumerate(rows_.read(path, split), start=1):
        place = f"{path}, row {number}"
        cells = _cells(row, named, place, as_json)
        messages, chosen, rejected = _conversation(cells, named, place)
        reason = _unsound(messages, chosen, rejected)
        if reason is not None or messages is None:
            skipped[str(reason)] += 1
            first.setdefault(str(reason), place)
            continue
        _check_encodable([chosen, rejected, *(message.get("content", "") for message in messages)], place)
        name = str(row[named["id"]]) if "id" in named else f"{source}-{number}"
        said = str(row[named["label"]]) if "label" in named else label
        if "label" in named and said not in ("harmful", "benign"):
            raise UserError(f"pairs: {place}: unknown label {said!r}; expected harmful or benign")
        kept.append(Preference(name, messages, chosen, rejected, said))
    if not kept:
        raise UserError(f"pairs: no row of {path} can be used; left out: {_counts(skipped)}")
    _check_distinct(kept, path)
    if seed is not None:
        kept = [kept[i] for i in np.random.default_rng(seed).permutation(len(kept))]
    return Preferences(kept[: limit or None], dict(skipped), first)


def _columns(path: str, columns: Mapping[str, str], label: str) -> dict[str, str]:
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise UserError(f"pairs: {path}: columns names {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    if label not in ("", "harmful", "benign") or (label and "label" in columns):
        raise UserError(f"pairs: {path}: label is {label!r}; give harmful, benign, or a label column, and not both")
    return {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", **columns}


def _cells(row: rows_.Row, named: Mapping[str, str], place: str, as_json: bool) -> dict[str, Any]:
    """The three cells of a row, strings or lists of messages; the prompt is None where there is no such column."""
    missing = [column for name, column in named.items() if name != "prompt" and column not in row]
    if missing:
        raise UserError(f"pairs: {place}: missing column {', '.join(missing)}; found {', '.join(row)[:200] or 'none'}")
    cells = {}
    for name in ("prompt", "chosen", "rejected"):
        value = row.get(named[name])
        value = _messages_in(value) if as_json and isinstance(value, str) else value
        if value is not None and not isinstance(value, str | list | tuple):
            raise UserError(
                f"pairs: {place}: column {named[name]} holds a {type(value).__name__}; expected text or messages"
            )
        cells[name] = value if value is None or isinstance(value, str) else _messages(value, named[name], place)
    return cells


def _messages_in(cell: str) -> Any:
    """The list of messages that a cell spells as JSON; any other cell as it is."""
    if not cell.lstrip().startswith("["):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    sound = isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value)
    return value if sound else cell


def _messages(value: Sequence[Any], column: str, place: str) -> tuple[Mapping[str, Any], ...]:
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise UserError(
                f"pairs: {place}: column {column} holds {str(message)[:80]!r}; expected messages with a role out of "
                f"{', '.join(ROLES)}"
            )
        said_nothing = message.get("content") is None and message["role"] == "assistant"  # it called a tool, say
        if not isinstance(message.get("content"), str) and not said_nothing:
            raise UserError(f"pairs: {place}: a message of column {column} has no text as its content")
    # Tables fill up messages with the keys of other rows.
    return tuple({key: item for key, item in message.items() if item is not None} for message in value)


Conversation = tuple[tuple[Mapping[str, Any], ...] | None, str, str]


def _conversation(cells: Mapping[str, Any], named: Mapping[str, str], place: str) -> Conversation:
    """(prompt, chosen, rejected) of a row; the prompt is None where the two conversations part too early."""
    (before, chosen), (other, rejected) = (_answer(cells[side], named[side], place) for side in ("chosen", "rejected"))
    prompt = cells["prompt"]
    asked = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
    if not before and not other:
        if not asked or not any(message.get("content", "").strip() for message in asked):
            raise UserError(
                f"pairs: {place}: no prompt: column {named['prompt']} is missing or empty, and the answers are no "
                "whole conversations"
            )
        if asked[-1]["role"] == "assistant":
            raise UserError(f"pairs: {place}: the prompt ends with the assistant's turn; expected the user's")
        return asked, chosen, rejected
    if before != other:
        return None, chosen, rejected
    last = [message["content"] for message in before if message["role"] == "user"][-1:]
    if asked is not None and asked != before and [prompt] != last:
        raise UserError(
            f"pairs: {place}: column {named['prompt']} is not the beginning of the conversations; name another column, "
            "or leave the prompt to them"
        )
    return before, chosen, rejected


def _answer(value: Any, column: str, place: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """(what comes before it, the answer) of a cell."""
    if value is None or isinstance(value, str):
        return (), value or ""
    if not value:
        return (), ""
    if value[-1]["role"] != "assistant":
        raise UserError(
            f"pairs: {place}: column {column} ends with the turn of {value[-1]['role']}; expected the assistant's"
        )
    return tuple(value[:-1]), value[-1].get("content", "")


def _unsound(messages: Any, chosen: str, rejected: str) -> str | None:
    if not chosen.strip() or not rejected.strip():
        return EMPTY
    if messages is None:
        return PARTED
    if chosen.strip() == rejected.strip():
        return EQUAL
    opened = (text.lstrip().startswith(thinking.THINK_OPEN) for text in (chosen, rejected))
    closed = (thinking.is_closed(text) for text in (chosen, rejected))
    return UNCLOSED if any(o and not c for o, c in zip(opened, closed)) else None


def _check_encodable(texts: Sequence[str], place: str) -> None:
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"pairs: {place}: undecodable text, a lone surrogate at character {error.start} of {text[:40]!r}"
            ) from None


def _counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} for {reason}" for reason, count in skipped.items()) or "none"


def _check_distinct(kept: Sequence[Preference], path: str) -> None:
    times = collections.Counter(preference.id for preference in kept)
    twice, count = times.most_common(1)[0]
    if count > 1:
        raise UserError(f"pairs: {path}: id {twice!r} occurs {count} times; ids must be distinct")
