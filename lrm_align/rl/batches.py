"""Groups to packed rows of one static size, whatever was sampled: what is not needed of it stays empty, and is skipped.

layout (which trace stands where)  ->  Batch without credit  ->  scores by position  ->  columns of credit
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.traces import Trace
from lrm_align.traces.packing import pack_steps


class Rows(NamedTuple):
    """The static size of a batch.

    Attributes:
      pieces: that the step works off one after another; the empty ones at the end cost nothing.
      piece_rows: rows of a piece.
      length: tokens of a row.
      segments: traces of a row at most.
    """

    pieces: int
    piece_rows: int
    length: int
    segments: int

    @property
    def number(self) -> int:
        """Rows of a batch."""
        return self.pieces * self.piece_rows


def rows_for(traces: int, longest: int, row_length: int, piece_rows: int, max_segments: int) -> Rows:
    """Rows that hold any `traces` traces of up to `longest` tokens.

    With best fit no two rows are both at most half full, so that rows ≤ 2·tokens / row_length + 1; and never more than
    one a trace, nor fewer than max_segments allows.

    >>> rows_for(64, 128, 256, 8, 8)
    Rows(pieces=8, piece_rows=8, length=256, segments=8)

    Raises:
      UserError: a trace may be longer than a row.
    """
    if longest > row_length:
        raise UserError(
            f"rl.row_length is {row_length}; prompts and completions have up to {longest} tokens "
            "(rl.sampling.max_length), and a row must hold one"
        )
    if piece_rows < 1 or max_segments < 1:
        raise UserError(f"rl.piece_rows is {piece_rows} and rl.max_segments {max_segments}; both must be at least 1")
    bound = -(-2 * traces * longest // row_length) + 1 + -(-traces // max_segments)
    return Rows(-(-min(traces, bound) // piece_rows), piece_rows, row_length, max_segments)


class Layout(NamedTuple):
    """Where each of K traces stands: row of the batch, segment of the row from 1, offset of its first token."""

    row_K: np.ndarray
    segment_K: np.ndarray
    offset_K: np.ndarray


def lay_out(lengths_K: np.ndarray, rows: Rows) -> Layout:
    """Packs traces, best fit decreasing, into as few rows as it can, and these into the first pieces.

    Piece p of a batch in k pieces is made of the rows p, p + k, p + 2k … (see `training.make_step`).

    Raises:
      UserError: more rows are needed than there are.
    """
    row_1xK, (needed,) = pack_steps(lengths_K[None], np.ones((1, lengths_K.size), int), rows.length, rows.segments)
    if needed > rows.number:
        raise UserError(f"rl: {lengths_K.size} traces of {lengths_K.sum()} tokens need {needed} of {rows.number} rows")
    packed_K = row_1xK[0]
    segment_K, offset_K = np.zeros_like(packed_K), np.zeros_like(packed_K)
    for row in range(needed):
        there = np.flatnonzero(packed_K == row)
        segment_K[there] = np.arange(1, there.size + 1)
        offset_K[there] = np.cumsum(lengths_K[there]) - lengths_K[there]
    piece_K, within_K = np.divmod(packed_K, rows.piece_rows)
    return Layout(within_K * rows.pieces + piece_K, segment_K, offset_K)


class Packed(NamedTuple):
    """Traces in rows.

    Attributes:
      batch: without credit; the sampler's log-probabilities are in it.
      sample_BxS: number of the trace in each segment, -1 for none.
    """

    batch: Batch
    sample_BxS: np.ndarray


def pack(traces: Sequence[Trace], rows: Rows, tag_names: tuple[str, ...] = ()) -> Packed:
    """The rows of traces; what was sampled is trained, nothing else.

    Args:
      traces: at most as many as the rows hold.
      rows: the static size.
      tag_names: of `Batch.tag_BxS`; a trace has at most one of them.
    """
    lengths_K = np.array([trace.length for trace in traces], int)
    layout = lay_out(lengths_K, rows)
    shape = (rows.number, rows.length)
    tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    mask, sampler_logp = (np.zeros(shape, np.float32) for _ in range(2))
    sample_BxS, tag_BxS = (np.full((rows.number, rows.segments), -1, np.int32) for _ in range(2))
    truncated_BxS = np.zeros((rows.number, rows.segments), np.float32)
    for k, trace in enumerate(traces):
        b, s, begin = layout.row_K[k], layout.segment_K[k], layout.offset_K[k]
        middle, end = begin + trace.prompt_ids.size, begin + trace.length
        tokens[b, begin:middle], tokens[b, middle:end] = trace.prompt_ids, trace.completion_ids
        segments[b, begin:end], positions[b, begin:end] = s, np.arange(trace.length)
        mask[b, middle:end] = trace.source == Source.SAMPLED
        sampler_logp[b, middle:end] = np.nan_to_num(trace.sampler_logp)
        sample_BxS[b, s - 1], truncated_BxS[b, s - 1] = k, trace.stop_reason == "length"
        tag_BxS[b, s - 1] = next((i for i, name in enumerate(tag_names) if name in trace.tags), -1)
    batch = Batch(
        tokens,
        segments,
        positions,
        mask,
        tag_BxS=tag_BxS if tag_names else None,
        sampler_logp_BxT=sampler_logp,
        truncated_BxS=truncated_BxS,
        tag_names=tag_names,
    )
    return Packed(batch, sample_BxS)


def per_sample(values_BxT: Any, packed: Packed, traces: int) -> np.ndarray:
    """(traces,) sum of values over the trained tokens of each trace."""
    batch = packed.batch
    total = np.zeros(traces)
    for k in range(traces):
        ((b, s),) = np.argwhere(packed.sample_BxS == k)
        there_T = (batch.segment_ids_BxT[b] == s + 1) & (batch.loss_mask_BxT[b] > 0)
        total[k] = np.sum(np.asarray(values_BxT)[b], where=there_T, dtype=np.float64)
    return total
