"""Samples are those of the model, and depend on seed, prompt and number alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from lrm_align.errors import UserError
from lrm_align.models import attention, lora, partition
from lrm_align.provenance import Source
from lrm_align.sampling import Engine, EngineShape, Request, SamplingParams, programs
from lrm_align.sampling import engine as engine_module
from lrm_align.sampling.distribution import Transform, transformed
from tests import families
from tests.sampling.engines import PARAMS, SHAPE, STOPS, assert_bitwise, engine, requests, run, tiny


def _full(completion, model, params):
    """Untempered logits of the completion's tokens by one full forward pass, padded to one length."""
    prompt = np.asarray(completion.request.prompt_ids)
    ids = np.zeros(40, np.int32)
    ids[: len(prompt) + len(completion.ids)] = np.concatenate([prompt, completion.ids])
    logits = families.logits(model, params, ids[None])[0]
    return np.asarray(logits[len(prompt) - 1 : len(prompt) - 1 + len(completion.ids)])


def test_log_probabilities_are_those_of_the_full_forward_pass():
    model, params = tiny()
    drawn = dataclasses.replace(PARAMS, temperature=0.7, top_k=30, top_p=0.9)
    for completion in run(engine(), requests(6, params=drawn)).values():
        logits = _full(completion, model, params)
        n = len(logits)
        transform = Transform(np.full(n, 0.7, np.float32), np.full(n, 30), np.full(n, 0.9, np.float32), np.zeros(n))
        for found, wanted in [
            (completion.model_logp, logits),
            (completion.sampler_logp, np.asarray(transformed(jnp.asarray(logits), transform))),
        ]:
            logp = jax.nn.log_softmax(wanted, axis=-1)[np.arange(n), completion.ids]
            np.testing.assert_allclose(found, logp, atol=1e-5)


def test_greedy_is_the_argmax_of_the_full_forward_pass():
    model, params = tiny()
    for completion in run(engine(), requests(3, params=dataclasses.replace(PARAMS, temperature=0))).values():
        np.testing.assert_array_equal(completion.ids, np.argmax(_full(completion, model, params), axis=1))
        assert (completion.sampler_logp == 0).all()


def test_a_sample_does_not_depend_on_neighbours_or_order():
    asked = requests(7, samples=3)
    together = run(engine(), asked)
    others = requests(5, samples=2, seed=9)
    others = [dataclasses.replace(request, prompt_id=f"other {request.prompt_id}") for request in others]
    mixed = run(engine(), [*others[:2], *asked[::-1], *others[2:]])
    alone = run(engine(), [dataclasses.replace(asked[4], samples=(1,))])
    for key, completion in together.items():
        assert_bitwise(completion, mixed[key])
    assert_bitwise(alone["prompt 4", 1], together["prompt 4", 1])
    assert len({tuple(together["prompt 4", n].ids) for n in range(3)}) == 3
    other_seed = run(engine(seed=1), asked)
    assert any(together[key].ids.tolist() != other_seed[key].ids.tolist() for key in together)


def test_both_layouts_of_the_cache_agree(monkeypatch):
    """Scanned and unrolled decoding; the scanned one reads its cache in chunks, here with a last one that overlaps."""
    asked = requests(4, 2)
    unrolled = run(engine(), asked)
    monkeypatch.setattr(engine_module, "UNROLL_UP_TO", 0)
    monkeypatch.setattr(attention, "CHUNK", 9)
    neighbour = Request("long", np.full(16, 7), 1, dataclasses.replace(PARAMS, max_new_tokens=24))
    shape = dataclasses.replace(SHAPE, max_length=41)
    scanned = run(engine(shape), asked)
    with_neighbour = run(engine(shape), [neighbour, *asked[::-1]])
    for key, completion in scanned.items():
        assert_bitwise(completion, with_neighbour[key])
        assert completion.ids.tolist() == unrolled[key].ids.tolist()
        np.testing.assert_allclose(completion.model_logp, unrolled[key].model_logp, atol=1e-5)


def test_across_shapes_log_probabilities_agree():
    asked = requests(4)
    one = run(engine(), asked)
    shape = EngineShape(slots=3, max_length=33, prompt_buckets=(17,), steps_per_call=5, prefill_rows=3)
    for key, completion in run(engine(shape), asked).items():
        assert completion.ids.tolist() == one[key].ids.tolist()
        np.testing.assert_allclose(completion.sampler_logp, one[key].sampler_logp, atol=1e-5)


def test_requests_compile_nothing_and_prompts_are_read_once(monkeypatch):
    ours = engine()
    run(ours, requests(3))
    run(ours, requests(3, params=SamplingParams(0.5, 3, 0.5, 0.1, 20)))
    sizes = [f._cache_size() for f in (programs.read_prompts, programs.insert, programs.decode, programs.new_cache)]
    reads = []
    read = programs.read_prompts
    monkeypatch.setattr(programs, "read_prompts", lambda *a: reads.append(int((a[2].sum(1) > 0).sum())) or read(*a))
    run(ours, requests(6, samples=5, seed=4))
    assert sum(reads) == 6
    run(ours, [*requests(1, params=SamplingParams(0.0)), *requests(2, seed=8)[1:]])
    assert sizes == [f._cache_size() for f in (read, programs.insert, programs.decode, programs.new_cache)]


def test_stops_and_limits():
    asked = requests(12, samples=2, params=dataclasses.replace(PARAMS, max_new_tokens=9))
    reasons = set()
    for completion in run(engine(), asked).values():
        reasons.add(completion.stop_reason)
        assert not set(completion.ids[:-1].tolist()) & set(STOPS)
        assert (completion.source == Source.SAMPLED).all()
        if completion.stop_reason == "stop":
            assert completion.ids[-1] in STOPS
        else:
            assert completion.stop_reason == "length" and len(completion.ids) == 9
    assert reasons == {"stop", "length"}
    # Without stop ids, every sample runs to its own limit, or to the end of its slot.
    limits = [dataclasses.replace(r, params=SamplingParams(max_new_tokens=n)) for r, n in zip(asked, (1, 3, 11, 999))]
    found = run(engine(stop_ids=()), [dataclasses.replace(request, samples=1) for request in limits])
    lengths = [len(found[f"prompt {i}", 0].ids) for i in range(4)]
    assert lengths == [1, 3, 11, SHAPE.max_length - len(asked[3].prompt_ids)]


def test_a_padded_vocabulary_is_never_drawn():
    asked = [Request(f"p{i}", [7, 8], 4, dataclasses.replace(PARAMS, temperature=5.0)) for i in range(4)]
    ids = np.concatenate([c.ids for c in run(engine(vocab_size=20, stop_ids=()), asked).values()])
    assert ids.max() < 20


def test_adapters_act():
    model, params = tiny()
    adapters = lora.init(jax.random.key(0), params, 2)
    adapters = jax.tree.map(lambda a: a + 0.3, adapters)
    adapted = lora.attach(params, adapters, 0.5)
    with_adapters = Engine(model, adapted, SHAPE, stop_ids=STOPS)
    for completion in run(with_adapters, requests(2)).values():
        logits = _full(completion, model, adapted)
        logp = jax.nn.log_softmax(logits, axis=-1)[np.arange(len(logits)), completion.ids]
        np.testing.assert_allclose(completion.model_logp, logp, atol=1e-5)


def test_eight_devices_draw_what_one_draws():
    model, params = tiny()
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    sharded = jax.device_put(params, partition.shardings(params, mesh))
    one = run(engine(), requests(5, samples=2))
    many = run(Engine(model, sharded, SHAPE, stop_ids=STOPS, mesh=mesh), requests(5, samples=2))
    for key, completion in many.items():
        assert completion.ids.tolist() == one[key].ids.tolist()
        np.testing.assert_allclose(completion.sampler_logp, one[key].sampler_logp, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([Request("long", np.full(40, 7))], "'long' has 40 tokens.*allows 39"),
        ([Request("none", [])], "at least one token"),
        ([Request("odd", [48])], "exceed the vocabulary of 48"),
        ([Request("a", [7], (1, 1))], "sample 1 is asked for twice"),
        ([Request("a", [7]), Request("a", [8])], "sample 0 is asked for twice"),
    ],
)
def test_refused_before_sampling(asked, message, monkeypatch):
    monkeypatch.setattr(programs, "decode", None)
    with pytest.raises(UserError, match=message):
        engine().run([Request("fine", [7]), *asked])


def test_refused_settings():
    with pytest.raises(UserError, match="temperature is -1"):
        SamplingParams(temperature=-1)
    with pytest.raises(UserError, match="top_p is 0"):
        SamplingParams(top_p=0)
    with pytest.raises(UserError, match="slots is 0"):
        EngineShape(slots=0)
    with pytest.raises(UserError, match=r"stop ids \[99\] are not in the vocabulary of 48"):
        engine(stop_ids=(1, 99))
    model, params = tiny()
    mesh = jax.make_mesh((8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with pytest.raises(UserError, match="4 slots are not divisible by the 8 batch shards"):
        Engine(model, params, SHAPE, stop_ids=(), mesh=mesh)
