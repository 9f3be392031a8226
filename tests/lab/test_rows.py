"""Packing of the pretraining documents: nothing is lost, cut or mixed up."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.lab import rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=80))
def test_every_document_is_in_one_row_and_rows_hold_them(lengths):
    packed = rows.best_fit(lengths, 30)
    assert sorted(i for row in packed for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 30 for row in packed)


def documents(count, longest=rows.SHAPES[0].length):
    random_ = np.random.default_rng(0)
    lengths = [int(n) for n in random_.integers(2, longest, count)]
    return [([i + 1] * n, [False] + [True] * (n - 1)) for i, n in enumerate(lengths)]


def test_batches_hold_whole_documents_with_their_masks():
    given_ = documents(120) + [([999] * 200, [True] * 200)] * 16
    seen = []
    for batch in rows.batches(given_, seed=0):
        assert batch.tokens_BxT.shape in [(s.rows, s.length) for s in rows.SHAPES]
        for tokens, segments, positions, mask in zip(
            batch.tokens_BxT, batch.segment_ids_BxT, batch.positions_BxT, batch.loss_mask_BxT
        ):
            assert not mask[segments == 0].any()
            for s in range(1, segments.max() + 1):
                at = segments == s
                assert len(set(tokens[at])) == 1 and positions[at].tolist() == list(range(at.sum()))
                assert mask[at][0] == 0 and mask[at][1:].all()
                seen.append((int(tokens[at][0]), int(at.sum())))
    assert set(seen) <= {(ids[0], len(ids)) for ids, _ in given_}
    assert seen.count((999, 200)) == 16
    assert len([pair for pair in seen if pair[0] != 999]) == len({pair for pair in seen if pair[0] != 999}) > 60


def test_batches_are_a_function_of_the_seed():
    one, two, other = (rows.batches(documents(100), seed) for seed in (0, 0, 1))
    assert all((a.tokens_BxT == b.tokens_BxT).all() for a, b in zip(one, two))
    assert any((a.tokens_BxT != b.tokens_BxT).any() for a, b in zip(one, other))
