"""Packing groups into rows of one size: every token once, nothing else, and never too few rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.rl.batches import Packed, lay_out, pack, per_sample, rows_for
from lrm_align.traces import Trace

KINDS = np.array([Source.SAMPLED, Source.TOOL, Source.SAMPLED, Source.INJECTED])


def trace(number: int, prompt: int, completion: int) -> Trace:
    """Tokens that name their trace and place; every second sampled, the others of tools and interventions."""
    ids = 1000 * (number + 1) + np.arange(prompt + completion)
    source = KINDS[np.arange(completion) % 4]
    logp = np.where(source == Source.SAMPLED, -0.01 * (number + 1), np.nan)
    return Trace(ids[:prompt], ids[prompt:], source, logp, prompt_id=str(number), tags=("benign",))


@given(st.lists(st.integers(2, 40), min_size=1, max_size=40), st.integers(40, 90), st.integers(1, 5), st.integers(1, 6))
def test_any_traces_fit_the_rows_made_for_them(lengths, row_length, piece_rows, segments):
    rows = rows_for(len(lengths), 40, row_length, piece_rows, segments)
    layout = lay_out(np.array(lengths), rows)
    used = np.zeros((rows.number, row_length), int)
    for row, offset, length in zip(layout.row_K, layout.offset_K, lengths):
        used[row, offset : offset + length] += 1
    assert used.sum() == sum(lengths) and used.max() == 1
    # What is filled is in the first pieces; row i belongs to piece i mod k.
    filled = [used[piece :: rows.pieces].any() for piece in range(rows.pieces)]
    assert filled == sorted(filled, reverse=True)


def test_every_token_keeps_what_is_known_of_it():
    traces = [trace(number, 3, size) for number, size in enumerate((9, 2, 5, 12))]
    rows = rows_for(4, 16, 20, 2, 3)
    batch, sample_BxS = pack(traces, rows, ("harmful", "benign"))
    assert batch.tokens_BxT.shape == (rows.number, 20)
    for number, one in enumerate(traces):
        ((b, s),) = np.argwhere(sample_BxS == number)
        there = batch.segment_ids_BxT[b] == s + 1
        np.testing.assert_array_equal(batch.tokens_BxT[b][there], one.ids)
        np.testing.assert_array_equal(batch.positions_BxT[b][there], np.arange(one.length))
        np.testing.assert_array_equal(batch.loss_mask_BxT[b][there] > 0, one.sources == Source.SAMPLED)
        sampled = there & (batch.loss_mask_BxT[b] > 0)
        np.testing.assert_allclose(batch.sampler_logp_BxT[b][sampled], -0.01 * (number + 1), rtol=1e-6)
        assert batch.tag_BxS[b, s] == 1
    assert np.isfinite(batch.sampler_logp_BxT).all()
    sampled = [int((one.source == Source.SAMPLED).sum()) for one in traces]
    np.testing.assert_array_equal(per_sample(np.ones(batch.tokens_BxT.shape), Packed(batch, sample_BxS), 4), sampled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4, 300, 256, 8, 8), "row_length is 256"), ((4, 100, 256, 0, 8), "piece_rows is 0")],
)
def test_rows_that_can_not_be(arguments, message):
    with pytest.raises(UserError, match=message):
        rows_for(*arguments)
