import jax
import numpy as np
import pytest

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.traces import Loader, Plan, TokenStore, Trace, write_shard

RULES = [{"batch_traces": 12, "rows_multiple": 8}, {"batch_rows": 8}]


@pytest.fixture(scope="module")
def traces(make_trace):
    rng = np.random.default_rng(0)
    return [
        make_trace(i, prompt=int(rng.integers(1, 9)), completion=int(rng.integers(1, 20)), sample=i,
                   tags=(["harmful"], ["benign", "other"], [])[i % 3])
        for i in range(70)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def store(traces):
    return TokenStore.from_traces(traces, with_logp=True)


def same(one: Batch, other: Batch) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one.tag_names == other.tag_names


@pytest.mark.parametrize("rule", RULES)
def test_hosts_together_make_the_same_global_batch(store, rule):
    plan = Plan(store.lengths, row_length=40, seed=3, epochs=2, **rule)
    options = {"tag_names": ("benign", "harmful"), "sampler_logp": True}
    whole = Loader(store, plan, **options)
    for hosts in (1, 2, 4, 8):
        # Each host has a plan of its own, as it would have in another process.
        parts = [
            Loader(store, Plan(store.lengths, row_length=40, seed=3, epochs=2, **rule), host=h, hosts=hosts, **options)
            for h in range(hosts)
        ]
        for step in (0, 1, plan.num_steps - 1):
            rows = [part.batch(step) for part in parts]
            assert len({jax.tree.structure(row) for row in rows}) == 1
            same(jax.tree.map(lambda *arrays: np.concatenate(arrays), *rows), whole.batch(step))


@pytest.mark.parametrize("rule", RULES)
def test_iteration_resumes_at_any_step(store, rule):
    loader = Loader(store, Plan(store.lengths, row_length=40, seed=3, epochs=2, **rule))
    whole = list(loader.steps(threads=2, prefetch=3))
    assert len(whole) == len(loader)
    for start in range(len(loader)):
        for step, batch in enumerate(loader.steps(start, start + 2), start):
            same(batch, whole[step])
            same(batch, loader.batch(step))
    assert list(loader.steps(len(loader))) == []


def test_rows_hold_the_traces_token_by_token(store, traces):
    plan = Plan(store.lengths, row_length=40, seed=0, batch_rows=8)
    loader = Loader(store, plan, tag_names=("benign", "harmful"), sampler_logp=True)
    seen = []
    for step in range(len(loader)):
        batch, layout = loader.batch(step), plan.batch(step)
        assert batch.tokens_BxT.dtype == batch.segment_ids_BxT.dtype == batch.positions_BxT.dtype == np.int32
        assert batch.loss_mask_BxT.dtype == batch.sampler_logp_BxT.dtype == np.float32
        for number, row, offset, segment in zip(layout.trace_K, layout.row_K, layout.offset_K, layout.segment_K):
            trace, part = traces[number], slice(offset, offset + traces[number].length)
            np.testing.assert_array_equal(batch.tokens_BxT[row, part], trace.ids)
            np.testing.assert_array_equal(batch.positions_BxT[row, part], np.arange(trace.length))
            assert (batch.segment_ids_BxT[row, part] == segment).all()
            np.testing.assert_array_equal(batch.loss_mask_BxT[row, part], trace.sources == Source.SAMPLED)
            known = np.concatenate([np.zeros(trace.prompt_ids.size), np.nan_to_num(trace.sampler_logp)])
            np.testing.assert_allclose(batch.sampler_logp_BxT[row, part], known)
            assert batch.tag_BxS[row, segment - 1] == {"benign": 0, "harmful": 1}.get((trace.tags or ("",))[0], -1)
            seen.append(int(number))
        padding = batch.segment_ids_BxT == 0
        for field in (batch.tokens_BxT, batch.positions_BxT, batch.loss_mask_BxT, batch.sampler_logp_BxT):
            assert not field[padding].any()
        assert (batch.tag_BxS >= 0).sum() == sum(bool(traces[number].tags) for number in layout.trace_K)
        in_store, in_rows = loader.positions(step)
        np.testing.assert_array_equal(batch.tokens_BxT.reshape(-1)[in_rows], store.tokens[in_store])
    assert sorted(seen) == list(range(len(traces)))


def test_pairs_stand_in_one_row(store):
    pairs = np.arange(20).reshape(-1, 2)[:, ::-1]
    plan = Plan(store.lengths, row_length=64, seed=0, batch_rows=4, pairs_Px2=pairs)
    loader = Loader(store, plan)
    found = 0
    for step in range(len(loader)):
        pair_BxS = loader.batch(step).pair_BxS
        for row in pair_BxS:
            numbers = sorted(row[row >= 0].tolist())
            assert numbers == list(range(len(numbers)))
            found += len(numbers)
    assert found == 20


def test_the_first_token_of_a_segment_and_untrained_sources_are_masked():
    everything = [Source.SAMPLED, Source.INJECTED, Source.TOOL]
    trace = Trace([], [1, 2, 3, 4], [1, 2, 3, 1], [-1.0, np.nan, np.nan, -2.0])
    store = TokenStore.from_traces([trace])
    plan = Plan(store.lengths, row_length=5, seed=0, batch_rows=1)
    assert Loader(store, plan).batch(0).loss_mask_BxT.tolist() == [[0, 0, 0, 1, 0]]
    assert Loader(store, plan, train_sources=everything).batch(0).loss_mask_BxT.tolist() == [[0, 1, 1, 1, 0]]


def test_a_trace_without_anything_to_train_on_is_named():
    sound = Trace([1], [2], [1], [-1.0], prompt_id="fine")
    injected = Trace([1], [2, 3], [2, 2], prompt_id="all injected", sample=4)
    cut = Trace([1] * 9, [2], [1], [-1.0], prompt_id="long prompt")
    for bad, name in ((injected, "'all injected', sample 4"), (cut, "'long prompt'")):
        store = TokenStore.from_traces([sound, bad, sound])
        plan = Plan(store.lengths, row_length=8, seed=0, batch_rows=1, overlong="truncate")
        with pytest.raises(UserError, match=f"all-zero loss mask: trace number 1 .prompt {name}"):
            Loader(store, plan)
    store = TokenStore.from_traces([sound, cut])
    dropping = Plan(store.lengths, row_length=8, seed=0, batch_rows=1, overlong="drop")
    assert len(Loader(store, dropping)) == 1  # what the plan leaves out cannot hurt
    with pytest.raises(UserError, match="train_sources: none"):
        Loader(store, dropping, train_sources=())


def test_other_mistakes_are_named(store):
    plan = Plan(store.lengths, row_length=40, seed=0, batch_rows=6)
    for change, named in [
        ({"hosts": 4}, "6 rows"),
        ({"host": 2, "hosts": 2}, "host 2"),
        ({"tag_names": ("benign", "other")}, "has the tags"),
        ({"vocab_size": 50}, "beyond the model's vocabulary of 50"),
        ({"sampler_logp": True, "train_sources": [Source.SAMPLED, Source.INJECTED]}, "SAMPLED alone"),
    ]:
        with pytest.raises(UserError, match=named):
            Loader(store, plan, **change)
    with pytest.raises(UserError, match="the plan is for"):
        Loader(TokenStore.from_traces([Trace([1], [2], [1], [-1.0])]), plan)


@pytest.mark.parametrize("memory_limit", [1 << 30, 10])
def test_a_store_of_shards_is_the_store_of_their_traces(tmp_path, traces, store, memory_limit):
    shards = [write_shard(tmp_path, f"s{i}", traces[i * 35 : (i + 1) * 35], "recipe") for i in range(2)]
    found = TokenStore.from_shards(shards, with_logp=True, memory_limit=memory_limit)
    assert isinstance(found.tokens, np.memmap) == (memory_limit == 10)
    for name in ("tokens", "source", "sampler_logp", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(store, name))
    assert (found.keys, found.tags) == (store.keys, store.tags)
    with pytest.raises(UserError, match="log-probabilities"):
        bare = TokenStore.from_shards(shards)
        Loader(bare, Plan(bare.lengths, row_length=40, seed=0, batch_rows=1), sampler_logp=True)
    with pytest.raises(UserError, match="no traces"):
        TokenStore.from_shards([])
