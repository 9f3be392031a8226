"""Reference log-probabilities: computed once, the same as in the step, and never used for anything else."""

import json

import jax
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.errors import UserError
from lrm_align.traces import Loader, Plan, TokenStore, Trace, pairs
from lrm_align.training import OptimizerSettings, full, lora, make_mesh, make_step, reference
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.scores import batch_scores
from tests.training import tiny

PARAMS = jax.tree.map(lambda a: 3 * a, tiny.MODEL.init(jax.random.key(0)))
LENGTH = 24


@pytest.fixture(scope="module")
def store():
    rng, traces = np.random.default_rng(0), []
    for number in range(12):
        prompt = rng.integers(1, 64, 3)
        two = [
            Trace(prompt, ids, np.full(ids.size, 2)) for ids in (rng.integers(1, 64, n) for n in rng.integers(2, 9, 2))
        ]
        traces += pairs.make(*two, f"p{number}")
    long = rng.integers(1, 64, 30)
    return TokenStore.from_traces([*traces, Trace(long[:5], long[5:], np.full(25, 2), prompt_id="long")])


@pytest.fixture(scope="module")
def values(store):
    return reference.logp(tiny.MODEL, PARAMS, store, make_mesh(), row_length=LENGTH, rows=3, chunk=None)


def test_every_token_is_scored_as_its_trace_by_itself(store, values):
    logits = jax.jit(lambda ids: tiny.MODEL.logits(PARAMS, ids))
    for number in (0, 5, 24):
        begin, end = store.offsets[number : number + 2]
        ids = store.tokens[begin:end][:LENGTH]
        padded = np.zeros((1, LENGTH), np.int32)
        padded[0, : ids.size] = ids
        wanted = jax.nn.log_softmax(logits(padded))[0, np.arange(ids.size - 1), ids[1:]]
        np.testing.assert_allclose(values[begin : begin + ids.size], np.pad(wanted, (1, 0)), rtol=1e-4, atol=1e-5)
    assert np.isnan(values[store.offsets[24] + LENGTH :]).all(), "beyond a row nothing is trained on"
    assert np.isfinite(values[: store.offsets[24] + LENGTH]).all()


def test_eight_devices_compute_the_same(store, values):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    found = reference.logp(tiny.MODEL, PARAMS, store, mesh, row_length=LENGTH, rows=8, chunk=8)
    np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)


def test_stored_is_live_and_the_first_loss_is_log_2(store, values):
    """Before the first step to rounding, and for other weights; what is read back is what a live pass gives."""
    plan = Plan(store.lengths, row_length=LENGTH, seed=0, batch_traces=12, pairs_Px2=pairs.find(store))
    every = {"train_sources": (1, 2), "vocab_size": 64}
    live = Loader(store, plan, **every).batch(0)
    stored = Loader(store, plan, columns={"ref_logp_BxT": values}, **every).batch(0)
    objective = objectives.preference(beta=0.5)

    @jax.jit
    def loss(params, batch):
        scores = batch_scores(tiny.MODEL, params, PARAMS, batch, objective.needs, None)
        return objective.loss(scores, batch, objective.normalizers(batch))

    moved = jax.tree.map(lambda a: 1.05 * a, PARAMS)
    for batch in (live, stored):
        assert abs(loss(PARAMS, batch)[0] - np.log(2)) < 1e-6
    (a, first), (b, second) = loss(moved, live), loss(moved, stored)
    assert abs(a - np.log(2)) > 1e-2 and first["rewards/margin"][1] == 12
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_dropout_is_refused():
    optimizer = make_optimizer(OptimizerSettings(), 1)
    with pytest.raises(UserError, match=r"lora.dropout is 0.1 .* it must be 0"):
        make_step(tiny.MODEL, objectives.preference(), optimizer, lora(4, 8.0, dropout=0.1))
    make_step(tiny.MODEL, objectives.preference("simpo", 2.0), optimizer, lora(4, 8.0, dropout=0.1))
    make_step(tiny.MODEL, objectives.preference(), optimizer, full(reference=True))


COMPUTE = {"dtype": "float32", "temperature": 1.0}


def test_what_is_stored_is_read_back_and_written_once(tmp_path, store, values):
    about = reference.identity({"model": 1}, store, "template", COMPUTE)
    assert not reference.exists(tmp_path / "none", about) and not reference.exists(tmp_path, about)
    with pytest.raises(UserError, match="no reference log-probabilities are stored"):
        reference.read(tmp_path, about)
    reference.write(tmp_path, values, about)
    assert reference.exists(tmp_path, about)
    np.testing.assert_array_equal(reference.read(tmp_path, about), values)
    with pytest.raises(UserError, match="never overwritten"):
        reference.write(tmp_path, values, about)


def test_stale_ones_are_refused_with_what_changed(tmp_path, store, values):
    about = reference.identity({"model": 1}, store, "template", COMPUTE)
    reference.write(tmp_path, values, about)
    other = TokenStore.from_traces([Trace([1, 2], [3], [2])])
    for changed, named in [
        (reference.identity({"model": 2}, store, "template", COMPUTE), "the model changed"),
        (reference.identity({"model": 1}, other, "template", COMPUTE), "the data changed"),
        (reference.identity({"model": 1}, store, "another", COMPUTE), "the template changed"),
        (
            reference.identity({"model": 1}, store, "template", {**COMPUTE, "dtype": "bfloat16"}),
            "the compute changed",
        ),
        (reference.identity({"model": 2}, store, "another", COMPUTE), "the model and the template changed"),
    ]:
        with pytest.raises(UserError, match=f"stale reference log-probabilities: {named}"):
            reference.read(tmp_path, changed)
    # Before there is any data, a change of the model is found already.
    assert reference.exists(tmp_path, reference.model_identity({"model": 1}, "template", COMPUTE))
    with pytest.raises(UserError, match=r"stale .*: the model changed"):
        reference.exists(tmp_path, reference.model_identity({"model": 2}, "template", COMPUTE))


def test_killed_and_damaged_writes(tmp_path, store, values):
    about = reference.identity(1, store, "template", COMPUTE)
    reference.write(tmp_path, values, about)
    (manifest,) = tmp_path.glob("*.json")
    whole = manifest.read_text()
    manifest.write_text(whole[:-20])  # a kill: it is as if nothing were there
    assert not reference.exists(tmp_path, about)
    reference.write(tmp_path, values, about)
    np.testing.assert_array_equal(reference.read(tmp_path, about), values)
    (data,) = tmp_path.glob("*.safetensors")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged or foreign"):
        reference.read(tmp_path, about)
    manifest.write_text(json.dumps({"format": "other"}) + "\n")
    with pytest.raises(UserError, match="not a manifest of reference"):
        reference.read(tmp_path, about)
