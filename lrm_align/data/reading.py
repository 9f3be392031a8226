"""Conversations of a file or `datasets` id, in whatever shape, with counts of what cannot be learned from."""

import collections
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lrm_align import limits
from lrm_align.chat import rows as rows_
from lrm_align.data import conversation, detect, listed
from lrm_align.data.conversation import Conversation
from lrm_align.errors import UserError


class Read(NamedTuple):
    """What a data set held.

    Attributes:
      shape: of its rows.
      kept: what can be learned from.
      dropped: how many rows were left out, by reason.
      first: for each reason the first such row.
    """

    shape: str
    kept: list[Conversation]
    dropped: dict[str, int]
    first: dict[str, str]


def read(
    path: str,
    *,
    format: str = detect.AUTO,
    split: str = "train",
    subset: str = "",
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    limit: int = 0,
) -> Read:
    """The conversations of a data set.

    Args:
      path: see `rows.read`.
      format: one of `detect.FORMATS`.
      split, subset: of a `datasets` id.
      columns: {name in the shape: name in the file} where they differ.
      seed: draws what a limit keeps.
      limit: rows that are kept; 0 keeps all.

    Raises:
      UserError: whatever is wrong with the file or with a row of it, or no row that can be learned from.
    """
    if not path:
        raise UserError("config.data.path is empty; give a file (JSONL, JSON, CSV, Parquet) or a `datasets` id")
    limits.count(limit, "config.data.limit")
    rows = [_renamed(row, columns or {}, path) for row in rows_.read(path, split, subset)]
    shape = detect.shape_of(rows, path, format)
    stem = pathlib.PurePath(path).stem
    kept: list[Conversation] = []
    dropped: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        place = f"{path}, row {number}"
        messages = detect.SHAPES[shape].read(row, place)
        _check_encodable(messages, place)
        reason = conversation.fault(messages)
        if reason is None:
            kept.append(Conversation(f"{stem}-{number}", place, messages, listed.tools(row, place)))
        else:
            dropped[reason] += 1
            first.setdefault(reason, place)
    if not kept:
        counts = ", ".join(f"{count} for {reason}" for reason, count in dropped.items())
        raise UserError(f"data: none of the {len(rows)} rows of {path} ({shape}) can be learned from: {counts}")
    if limit:
        drawn = np.random.default_rng(seed).permutation(len(kept))[:limit]
        kept = [kept[i] for i in sorted(drawn)]
    return Read(shape, kept, dict(dropped), first)


def held_out(conversations: list[Conversation], share: float) -> tuple[list[Conversation], list[Conversation]]:
    """(to train on, to measure on): the prompts with the smallest hashes are held out, whatever the order.

    Equal prompts stay together, so that none is on both sides.

    Args:
      conversations: all of them.
      share: of the different prompts; at least one is held out where it is above 0.

    Raises:
      UserError: nothing would be left to train on.
    """
    if not share:
        return conversations, []
    hashes = sorted({one.prompt_hash for one in conversations})
    size = max(1, round(share * len(hashes)))
    if size >= len(hashes):
        raise UserError(
            f"config.data.validation is {share}, of {len(hashes)} different prompts: nothing is left to train on"
        )
    out = set(hashes[:size])
    return (
        [one for one in conversations if one.prompt_hash not in out],
        [one for one in conversations if one.prompt_hash in out],
    )


def _renamed(row: Mapping, names: Mapping[str, str], path: str) -> dict:
    missing = [column for column in names.values() if column not in row]
    if missing:
        raise UserError(f"data: {path}: config.data.columns names {missing[0]!r}; found {', '.join(row)[:200]}")
    taken = {*names.values(), *names}
    return {**{key: value for key, value in row.items() if key not in taken},
            **{name: row[column] for name, column in names.items()}}  # fmt: skip


def _check_encodable(messages: tuple, place: str) -> None:
    for message in messages:
        for value in message.values():
            try:
                value.encode() if isinstance(value, str) else None
            except UnicodeEncodeError as error:
                at = f"a lone surrogate at character {error.start}"
                raise UserError(f"data: {place}: undecodable text, {at}") from None
