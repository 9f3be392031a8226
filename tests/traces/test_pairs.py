"""Pairs of traces: made, found again, packed into one row on any number of hosts, with columns of their own."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.traces import Loader, Plan, TokenStore, pairs

RULES = [{"batch_traces": 6, "rows_multiple": 8}, {"batch_rows": 8}]


@pytest.fixture(scope="module")
def paired(make_trace):
    """40 pairs of sampled answers of different lengths; every prompt is shared by its two."""
    rng, found = np.random.default_rng(1), []
    for number in range(40):
        sizes, prompt = rng.integers(2, 14, 2), int(rng.integers(2, 6))
        two = [make_trace(100 + 2 * number + side, prompt=prompt, completion=int(sizes[side])) for side in (0, 1)]
        two[1] = two[1].replace(prompt_ids=two[0].prompt_ids, stop_reason="length")
        found.append(pairs.make(*two, f"pair {number}"))
    return found


@pytest.fixture(scope="module")
def store(paired):
    # In any order: pairs are found by group and side.
    traces = [trace for pair in paired for trace in pair]
    order = np.random.default_rng(0).permutation(len(traces))
    return TokenStore.from_traces([traces[i] for i in order], with_logp=True)


def test_pairs_are_found_again_by_group_and_side(store, paired):
    numbers = pairs.find(store)
    assert sorted(numbers.ravel().tolist()) == list(range(80))
    for chosen, rejected in numbers:
        assert store.keys[chosen][0] == store.keys[rejected][0]
        assert (store.keys[chosen][1], store.keys[rejected][1]) == (0, 1)
    first, second = paired[0]
    assert first.meta["from"] == ["p100", 0] and first.tags == ("harmful", "chosen")
    again = pairs.make(second, first, "turned")  # a trace may change sides
    assert again[0].tags == ("harmful", "chosen") and again[0].completion_ids.tolist() == second.completion_ids.tolist()


@pytest.mark.parametrize("rule", RULES)
def test_batches_of_pairs_are_the_same_on_any_number_of_hosts(store, rule):
    flat = np.random.default_rng(2).normal(size=store.tokens.size).astype(np.float32)
    options = {
        "tag_names": ("benign", "harmful"),
        "sampler_logp": True,
        "truncated": True,
        "columns": {"ref_logp_BxT": flat, "old_logp_BxT": flat + 1, "advantage_BxT": flat + 2},
    }

    def plan():
        return Plan(store.lengths, row_length=40, seed=3, epochs=2, pairs_Px2=pairs.find(store), **rule)

    whole = Loader(store, plan(), **options)
    for hosts in (1, 2, 4, 8):
        parts = [Loader(store, plan(), host=h, hosts=hosts, **options) for h in range(hosts)]
        for step in (0, 1, len(whole) - 1):
            rows = [part.batch(step) for part in parts]
            joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *rows)
            jax.tree.map(np.testing.assert_array_equal, joined, whole.batch(step))
    resumed = list(whole.steps(2, 4))
    for step, batch in enumerate(resumed, 2):
        jax.tree.map(np.testing.assert_array_equal, batch, whole.batch(step))


@pytest.mark.parametrize("rule", RULES)
def test_every_pair_stands_in_one_row_with_its_columns(store, rule):
    numbers = pairs.find(store)
    flat = np.arange(store.tokens.size, dtype=np.float32)
    plan = Plan(store.lengths, row_length=40, seed=0, pairs_Px2=numbers, **rule)
    loader = Loader(store, plan, truncated=True, columns={"ref_logp_BxT": flat})
    seen = []
    for step in range(len(loader)):
        batch, layout = loader.batch(step), plan.batch(step)
        assert batch.pair_BxS.shape == batch.truncated_BxS.shape == (plan.rows, plan.max_segments)
        assert batch.truncated_BxS.dtype == np.float32
        where = {(row, pair): k for k, (row, pair) in enumerate(zip(layout.row_K, layout.pair_K))}
        for (row, pair), k in where.items():
            if pair % 2 == 0:
                rejected = where[row, pair + 1]
                seen.append((layout.trace_K[k], layout.trace_K[rejected]))
                assert batch.truncated_BxS[row, layout.segment_K[[k, rejected]] - 1].tolist() == [0, 1]
            segment = layout.segment_K[k]
            assert batch.pair_BxS[row, segment - 1] == pair
            begin, trace = store.offsets[layout.trace_K[k]], batch.segment_ids_BxT[row] == segment
            np.testing.assert_array_equal(batch.ref_logp_BxT[row, trace], flat[begin : begin + trace.sum()])
    assert sorted(seen) == sorted(map(tuple, numbers))


@given(st.integers(20, 60), st.sampled_from(["drop", "truncate"]), st.integers(0, 100))
def test_long_pairs_are_dropped_or_cut_and_counted(row_length, overlong, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 50, 20)
    lengths[:2] = 2
    numbers = np.arange(20).reshape(10, 2)
    plan = Plan(lengths, row_length=row_length, seed=seed, batch_rows=2, pairs_Px2=numbers, overlong=overlong)
    long = lengths.reshape(10, 2).sum(1) > row_length
    used = plan.planned_lengths.reshape(10, 2)
    if overlong == "drop":
        assert plan.counts["dropped_overlong"] == long.sum() and not used[long].any()
        assert (used[~long] == lengths.reshape(10, 2)[~long]).all()
    else:
        assert (used.sum(1) <= row_length).all() and (used > 0).all()
        assert plan.counts["truncated"] == (used.ravel() < lengths).sum()


def test_a_cut_trace_counts_as_truncated(make_trace):
    trace = make_trace(0, prompt=2, completion=20)
    short = make_trace(1, prompt=2, completion=3)
    store = TokenStore.from_traces([trace, short])
    plan = Plan(store.lengths, row_length=12, seed=0, batch_rows=2, overlong="truncate")
    batch = Loader(store, plan, truncated=True).batch(0)
    by_length = {(ids > 0).sum(): cut.max() for ids, cut in zip(batch.segment_ids_BxT, batch.truncated_BxS)}
    assert by_length == {12: 1, 5: 0}


def test_mistakes_are_named(make_trace, store):
    a, b = make_trace(0), make_trace(1).replace(prompt_ids=make_trace(0).prompt_ids)
    with pytest.raises(UserError, match="to different prompts"):
        pairs.make(a, make_trace(2, prompt=4), "p")
    with pytest.raises(UserError, match="needs an id"):
        pairs.make(a, b, "")
    chosen, rejected = pairs.make(a, b, "p")
    for traces, named in [
        ([a, b], "no pair among 2 traces"),
        ([chosen], "is chosen over nothing"),
        ([rejected], "is rejected over nothing"),
        ([chosen, chosen.replace(sample=5), rejected], "is a second chosen answer"),
        ([chosen.replace(group_id=""), rejected], "it has no group id"),
    ]:
        with pytest.raises(UserError, match=named):
            pairs.find(TokenStore.from_traces(traces))
    assert pairs.fault(chosen, rejected) is None
    assert pairs.fault(chosen, chosen) == "equal answers"
    empty = rejected.replace(completion_ids=[], source=[], sampler_logp=None, model_logp=None)
    assert pairs.fault(chosen, empty) == "empty side"
    plan = Plan(store.lengths, row_length=40, seed=0, batch_rows=8)
    flat = np.zeros(store.tokens.size, np.float32)
    bad = flat.copy()
    bad[store.offsets[3] + 8] = np.nan
    for columns, named in [
        ({"tokens_BxT": flat}, "no column 'tokens_BxT' to fill"),
        ({"ref_logp_BxT": flat[1:]}, "has shape"),
        ({"old_logp_BxT": bad}, "old_logp_BxT is not finite at a trained token of trace number 3"),
    ]:
        with pytest.raises(UserError, match=named):
            Loader(store, plan, columns=columns)
