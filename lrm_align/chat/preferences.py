"""Preference pairs from files: a prompt, an answer that is preferred, and one that is not."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align import limits
from lrm_align.chat import messages as messages_
from lrm_align.chat import rows as rows_
from lrm_align.chat import thinking
from lrm_align.chat.chat import THOUGHTS
from lrm_align.errors import UserError

COLUMNS = ("prompt", "chosen", "rejected", "label", "id")
EQUAL, EMPTY = "equal answers", "empty side"
SPOKEN = ("tool_calls", "function_call", "refusal", "audio")  # what an answer may say beside its text
PARTED, UNCLOSED = "conversations differ before their last answer", "thinking not closed"


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """One pair.

    Attributes:
      id: the same in every run, whatever the order or the limit.
      messages: the conversation up to the answer.
      chosen, rejected: the two answers, thoughts included, in `<think>` and `</think>`.
      label: "harmful", "benign", or "" where none is known.
      ignored: names of the answers' fields that are not trained on.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    chosen: str
    rejected: str
    label: str = ""
    ignored: tuple[str, ...] = ()


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

    @property
    def ignored(self) -> dict[str, int]:
        """How many kept pairs have an answer with a field that is not trained on, by its name."""
        return dict(collections.Counter(name for preference in self.kept for name in preference.ignored))


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
    hold such a list as JSON. An answer with `</think>` in it is split there into thought and answer; a message may hold
    its thought in `reasoning_content`, `reasoning` or `thinking` instead. Other fields of an answer are counted by name
    where they hold something, and refused where they say something (`tool_calls`, `function_call`, `refusal`, `audio`).

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
      UserError: a missing file or column, a negative limit, a wrong type or role, an id that occurs twice, or no pair
        that is left.
    """
    limits.count(limit, f"pairs: {path}: limit")
    named = _columns(path, columns or {}, label)
    source, as_json = pathlib.PurePath(path).stem, pathlib.PurePath(path).suffix.lower() in (".csv", ".tsv")
    kept: list[Preference] = []
    skipped: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    for number, row in enumerate(rows_.read(path, split), start=1):
        place = f"{path}, row {number}"
        cells = _cells(row, named, place, as_json)
        messages, chosen, rejected = _conversation(cells, named, place)
        ignored = tuple(sorted({field for side in ("chosen", "rejected") for field in _ignored(cells[side])}))
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
        kept.append(Preference(name, messages, chosen, rejected, said, ignored))
    if not kept:
        raise UserError(f"pairs: no row of {path} can be used; left out: {_counts(skipped)}")
    _check_distinct(kept, path)
    if seed is not None:
        kept = [kept[i] for i in np.random.default_rng(seed).permutation(len(kept))]
    return Preferences(limits.first(kept, limit), dict(skipped), first)


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
        value = messages_.in_cell(value, f"pairs: {place}") if as_json and isinstance(value, str) else value
        if value is not None and not isinstance(value, str | list | tuple):
            raise UserError(
                f"pairs: {place}: column {named[name]} holds a {type(value).__name__}; expected text or messages"
            )
        cells[name] = (
            value
            if value is None or isinstance(value, str)
            else messages_.checked(value, named[name], f"pairs: {place}")
        )
    return cells


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
    return tuple(value[:-1]), _spoken(value[-1], f"pairs: {place}: the answer of column {column}")


def _spoken(message: Mapping[str, Any], where: str) -> str:
    """All that an answer says, its thought in the tags of thinking."""
    if found := [name for name in SPOKEN if message.get(name)]:
        raise UserError(f"{where} holds {', '.join(found)}, which cannot be trained on; drop the row, or that field")
    text = message.get("content", "")
    thoughts = {name: message[name] for name in THOUGHTS if message.get(name)}
    for name, thought in thoughts.items():
        if not isinstance(thought, str):
            raise UserError(f"{where} has a {type(thought).__name__} as its {name}; expected text")
    if not thoughts:
        return text
    if len(set(thoughts.values())) > 1:
        raise UserError(f"{where} has different thoughts in {' and '.join(thoughts)}; keep one")
    if thinking.is_closed(text) or text.lstrip().startswith(thinking.THINK_OPEN):
        raise UserError(f"{where} has one thought in its content and another in {', '.join(thoughts)}; keep one")
    thought = next(iter(thoughts.values()))
    return f"{thinking.THINK_OPEN}\n{thought}\n{thinking.THINK_CLOSE}\n\n{text}"


def _ignored(value: Any) -> list[str]:
    """Names of the fields of an answer that hold something and are not trained on."""
    message = value[-1] if isinstance(value, tuple) and value else {}
    known = ("role", "content", *THOUGHTS)
    return [str(name) for name, item in message.items() if name not in known and item not in ("", [], {}, ())]


def _unsound(messages: Any, chosen: str, rejected: str) -> str | None:
    if not _answered(chosen) or not _answered(rejected):
        return EMPTY
    if messages is None:
        return PARTED
    if chosen.strip() == rejected.strip():
        return EQUAL
    opened = (text.lstrip().startswith(thinking.THINK_OPEN) for text in (chosen, rejected))
    closed = (thinking.is_closed(text) for text in (chosen, rejected))
    return UNCLOSED if any(o and not c for o, c in zip(opened, closed)) else None


def _answered(text: str) -> bool:
    """Whether there is an answer, beside a thought."""
    return bool(text.rpartition(thinking.THINK_CLOSE)[2].strip())


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
