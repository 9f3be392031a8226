"""Packs the pretraining documents into rows, and the rows into batches of two shapes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lrm_align.batch import Batch

OPEN_ROWS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """A batch of `rows` rows of `length` tokens."""

    rows: int
    length: int


# Nearly all documents fit the first shape; the few that offer a tool in full need the second. Both hold 2,016 tokens.
SHAPES = (Shape(14, 144), Shape(8, 252))

Encoded = tuple[Sequence[int], Sequence[bool]]


def best_fit(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Assigns documents to rows in order of arrival: each goes where it leaves the least room, among the open rows.

    Args:
      lengths: tokens of each document, none above `row_length`.
      row_length: tokens in a row.

    Returns:
      the documents of each row.

    >>> best_fit([6, 3, 4, 5], 10)
    [[0, 1], [2, 3]]
    """
    closed: list[list[int]] = []
    rows: list[tuple[int, list[int]]] = []  # (room left, documents)
    for document, length in enumerate(lengths):
        fitting = [i for i, (room, _) in enumerate(rows) if room >= length]
        if fitting:
            i = min(fitting, key=lambda i: rows[i][0])
            room, documents = rows[i]
            rows[i] = (room - length, [*documents, document])
        else:
            if len(rows) == OPEN_ROWS:
                closed.append(rows.pop(min(range(OPEN_ROWS), key=lambda i: rows[i][0]))[1])
            rows.append((row_length - length, [document]))
    return closed + [documents for _, documents in rows]


def _batch(shape: Shape, rows: Sequence[Sequence[Encoded]]) -> Batch:
    grid = (shape.rows, shape.length)
    tokens, segments, positions = (np.zeros(grid, np.int32) for _ in range(3))
    mask = np.zeros(grid, np.float32)
    for b, documents in enumerate(rows):
        at = 0
        for s, (ids, trained) in enumerate(documents, start=1):
            end = at + len(ids)
            tokens[b, at:end], segments[b, at:end], positions[b, at:end] = ids, s, np.arange(len(ids))
            mask[b, at:end] = trained
            mask[b, at] = 0.0
            at = end
    return Batch(tokens, segments, positions, mask)


def batches(documents: Sequence[Encoded], seed: int) -> list[Batch]:
    """All documents once, packed and shuffled; the rows that don't fill a last batch are left out.

    Args:
      documents: ids and, for each id, whether it is trained on.
      seed: of the shuffles.
    """
    random_ = np.random.default_rng(seed)
    out: list[Batch] = []
    shortest = 0
    for shape in SHAPES:
        chosen = [document for document in documents if shortest < len(document[0]) <= shape.length]
        shortest = shape.length
        packed = best_fit([len(ids) for ids, _ in chosen], shape.length)
        order = random_.permutation(len(packed))
        for start in range(0, len(packed) - shape.rows + 1, shape.rows):
            rows = [[chosen[i] for i in packed[row]] for row in order[start : start + shape.rows]]
            out.append(_batch(shape, rows))
    return [out[i] for i in random_.permutation(len(out))]
