"""Policy gradients of every kind: what must change nothing, what is exactly zero, and that gradients are slopes."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.objectives import policy_gradient
from tests.policy_batches import value_and_metrics

B, T, S = 3, 10, 4
COLUMNS = ("advantage_BxT", "old_logp_BxT", "sampler_logp_BxT", "ref_logp_BxT", "loss_mask_BxT")
ALL = {
    "grpo": objectives.grpo(kl_weight=0.1, entropy_weight=0.01),
    "dr_grpo": objectives.dr_grpo(7, kl="k3_unbiased", kl_weight=0.1),
    "dapo": objectives.dapo(masks=["truncated", ("top_entropy", 0.4)]),
    "gspo": objectives.gspo(0.1, 0.2, masks=[("off_policy_sequence", 0.05)]),
    "cispo": objectives.cispo(1.3, correction="token_truncate"),
    "cispo_two_sided": policy_gradient(surrogate="cispo_two_sided", correction="sequence_truncate"),
    "sapo": objectives.sapo(correction="token_mask"),
    "rloo": objectives.rloo(watch=["kl", "entropy"], correction="geometric_filter"),
    "dual": policy_gradient("sequence", ("dual_clip", 0.2, 0.2, 1.5), "sequence_sum", correction="sequence_mask"),
    "plain": policy_gradient(surrogate="plain", kl="k2", kl_weight=0.3),
    "reinforce": policy_gradient(surrogate="reinforce", kl="k3+", kl_weight=0.2),
    "gmpo": objectives.gmpo(),
    "luspo": objectives.luspo(0.1, 0.1),
    "vespo": objectives.vespo(),
}


def scores_of(batch: Batch, logp, entropy) -> dict:
    return {"logp": logp, "reference.logp": batch.ref_logp_BxT, "entropy": entropy}


def everything(batch: Batch, logp, entropy):
    """{name: (loss, metrics, gradient)}, of all objectives at once, as NumPy arrays."""
    return jax.device_get(compiled(batch, logp, entropy))


@jax.jit
def compiled(batch: Batch, logp, entropy):
    out = {}
    for name, objective in ALL.items():

        def loss(logp, objective=objective):
            return value_and_metrics(objective, scores_of(batch, logp, entropy), batch)

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(logp)
        out[name] = value, metrics, gradient
    return out


def packed(lengths, seed: int, scale: float = 0.5):
    """(batch, logp, entropy): up to S traces in each of B rows."""
    rng = np.random.default_rng(seed)
    segments = np.zeros((B, T), np.int32)
    for row, sizes in enumerate(lengths):
        ends = np.cumsum(sizes)
        for s, (size, end) in enumerate(zip(sizes, ends), 1):
            segments[row, end - size : end] = s
    starts = segments != np.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    mask = (segments > 0) & ~starts & (rng.uniform(size=(B, T)) < 0.8)
    advantage_BxS = rng.normal(size=(B, S)) * (rng.uniform(size=(B, S)) < 0.8)
    advantage = np.take_along_axis(advantage_BxS, np.maximum(segments - 1, 0), 1)

    def column():
        return rng.normal(-2, scale, (B, T)).astype(np.float32)

    batch = Batch(
        segments,
        segments,
        segments,
        mask.astype(np.float32),
        advantage_BxT=advantage.astype(np.float32),
        old_logp_BxT=column(),
        ref_logp_BxT=column(),
        sampler_logp_BxT=column(),
        truncated_BxS=(rng.uniform(size=(B, S)) < 0.3).astype(np.float32),
    )
    return batch, column(), rng.uniform(0, 3, (B, T)).astype(np.float32)


@st.composite
def layouts(draw):
    lengths = []
    for _ in range(B):
        sizes, left = [], T
        for _ in range(draw(st.integers(0, S))):
            if left == 0:
                break
            sizes.append(draw(st.integers(1, left)))
            left -= sizes[-1]
        lengths.append(sizes)
    return lengths


def placed(batch: Batch, logp, entropy, moves, rows: int):
    """Traces taken from (row, segment) to (row, segment, start) of as many rows, with all that belongs to them."""
    empty = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    arrays = {name: a for name, a in empty.items() if a is not None and name.endswith("BxT")}
    arrays |= {"logp": logp, "entropy": entropy}
    out = {name: np.zeros((rows, T), a.dtype) for name, a in arrays.items()}
    truncated = np.zeros((rows, S), np.float32)
    at = np.full((rows, T), -1)
    for (row, segment), (new_row, new_segment, start) in moves.items():
        source = np.flatnonzero(batch.segment_ids_BxT[row] == segment)
        target = slice(start, start + source.size)
        for name, a in arrays.items():
            out[name][new_row, target] = a[row, source]
        out["segment_ids_BxT"][new_row, target] = new_segment
        truncated[new_row, new_segment - 1] = batch.truncated_BxS[row, segment - 1]
        at[new_row, target] = row * T + source
    logp, entropy = out.pop("logp"), out.pop("entropy")
    return batch.replace(**out, truncated_BxS=truncated), logp, entropy, at


@hypothesis.settings(max_examples=10, derandomize=True)
@hypothesis.given(layouts(), st.integers(0, 2**16), st.randoms(use_true_random=False))
def test_packed_is_unpacked_is_shuffled(lengths, seed, random):
    batch, logp, entropy = packed(lengths, seed)
    wanted = everything(batch, logp, entropy)
    traces = [(row, s) for row, sizes in enumerate(lengths) for s in range(1, len(sizes) + 1)]
    alone = {trace: (i, 1, 0) for i, trace in enumerate(traces)}
    rows, shuffled = random.sample(range(B), B), {}
    for row, sizes in enumerate(lengths):
        start = 0
        for new, s in enumerate(random.sample(range(1, len(sizes) + 1), len(sizes)), 1):
            shuffled[row, s] = (rows[row], new, start)
            start += sizes[s - 1]
    for moves, count in ((alone, B * S), (shuffled, B)):
        *changed, at = placed(batch, logp, entropy, moves, count)
        found = everything(*changed)
        for name in ALL:
            (loss, metrics, gradient), (wanted_loss, wanted_metrics, wanted_gradient) = found[name], wanted[name]
            np.testing.assert_allclose(loss, wanted_loss, rtol=1e-4, atol=1e-5, err_msg=name)
            scattered = np.zeros(B * T, np.float32)
            scattered[at[at >= 0]] = gradient[at >= 0]
            np.testing.assert_allclose(scattered.reshape(B, T), wanted_gradient, rtol=1e-4, atol=1e-5, err_msg=name)
            for metric, pair in wanted_metrics.items():
                for a, b in zip(metrics[metric], pair):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=f"{name} {metric}")


@jax.jit
def normalizers_of(batch: Batch, logp, entropy):
    scores, out = scores_of(batch, logp, entropy), {}
    for name, objective in ALL.items():
        out[name] = objective.normalizers(batch)
        if objective.batch_statistics is not None:
            out[name] |= objective.batch_statistics(scores, batch)
    return out


@jax.jit
def losses_of(batch: Batch, logp, entropy, normalizers):
    scores = scores_of(batch, logp, entropy)
    return {name: objective.loss(scores, batch, normalizers[name]) for name, objective in ALL.items()}


def test_rows_add_up():
    """As micro-batches do, with the normalizers of the whole."""
    whole = packed([[4, 6], [3, 3, 2], [10]], 3)
    normalizers = normalizers_of(*whole)
    wanted = {name: (loss, metrics) for name, (loss, metrics, _) in everything(*whole).items()}
    rows = [jax.tree.map(lambda a, row=row: a[row : row + 1], whole) for row in range(B)]
    found = jax.tree.map(lambda *parts: sum(parts), *(losses_of(*row, normalizers) for row in rows))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_is_not_trained_has_no_gradient():
    """Exactly zero, also where scores and columns are not finite."""
    batch, logp, entropy = packed([[4, 6], [3, 3, 2], [5]], 4)
    outside = batch.loss_mask_BxT == 0
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = {name: np.where(outside, bad, getattr(batch, name)) for name in COLUMNS[:-1]}
        found = everything(batch.replace(**spoilt), *(np.where(outside, bad, a) for a in (logp, entropy)))
        for name, (loss, _, gradient) in found.items():
            assert (np.asarray(gradient)[outside] == 0).all(), name
            np.testing.assert_array_equal(loss, everything(batch, logp, entropy)[name][0], err_msg=name)
    nothing = batch.replace(loss_mask_BxT=np.zeros((B, T), np.float32))
    for name, (loss, metrics, gradient) in everything(nothing, logp, entropy).items():
        assert loss == 0 and (gradient == 0).all(), name
        assert all((np.asarray(part) == 0).all() for pair in metrics.values() for part in pair), name


def test_advantage_zero_trains_nothing_without_a_penalty():
    batch, logp, entropy = packed([[4, 6], [3, 3, 2], [5]], 5)
    still = batch.replace(advantage_BxT=np.zeros((B, T), np.float32))
    for extreme in (logp, np.where(np.arange(T) % 2, 1e4, -1e4).astype(np.float32) * np.ones((B, 1), np.float32)):
        found = everything(still, extreme, entropy)
        for name in ("dapo", "gspo", "cispo", "sapo", "rloo", "dual", "gmpo", "luspo", "vespo"):
            assert found[name][0] == 0 and (found[name][2] == 0).all(), name


@pytest.mark.parametrize("gap", [1e4, -1e4, 80.0])
def test_extreme_log_ratios_are_finite(gap):
    batch, logp, entropy = packed([[4, 6], [3, 3, 2], [10]], 6)
    for name, other in (("old", "old_logp_BxT"), ("sampler", "sampler_logp_BxT"), ("ref", "ref_logp_BxT")):
        moved = batch.replace(**{other: getattr(batch, other) + np.float32(gap)})
        for objective, (loss, metrics, gradient) in everything(moved, logp, entropy).items():
            leaves = [loss, gradient, *jax.tree.leaves(metrics)]
            assert all(np.isfinite(leaf).all() for leaf in leaves), f"{objective}: {name}"


def test_finite_differences():
    """In float64 each objective's gradient is its slope; detached weights are constants, so their losses differ."""
    detached = {"cispo", "cispo_two_sided", "vespo", "reinforce"}
    with jax.enable_x64(True):
        batch, logp, entropy = jax.tree.map(
            lambda a: a.astype(np.float64) if a.dtype == np.float32 else a,
            packed([[4, 6], [3, 3, 2], [10]], 7, scale=0.05),
        )
        direction = np.random.default_rng(0).normal(size=(B, T))
        below, here, above = (everything(batch, logp + s * direction, entropy) for s in (-1e-6, 0, 1e-6))
        for name in ALL.keys() - detached:
            slope, gradient = (above[name][0] - below[name][0]) / 2e-6, here[name][2]
            assert gradient.dtype == np.float64
            np.testing.assert_allclose(slope, jnp.vdot(gradient, direction), rtol=1e-6, atol=1e-9, err_msg=name)


def value_of(objective, batch, entropy, logp):
    return value_and_metrics(objective, scores_of(batch, logp, entropy), batch)[0]


def test_without_old_log_probabilities_the_ratio_is_one():
    batch, logp, entropy = packed([[4, 6], [3, 3, 2], [10]], 8)
    alone, same = batch.replace(old_logp_BxT=None), batch.replace(old_logp_BxT=logp)
    wanted = everything(same, logp, entropy)
    for name in ("grpo", "dr_grpo", "cispo"):
        scores = scores_of(batch, logp, entropy)
        loss, metrics = value_and_metrics(ALL[name], scores, alone)
        np.testing.assert_allclose(loss, wanted[name][0], rtol=1e-6, err_msg=name)
        assert metrics["ratio/mean"][0] == metrics["ratio/mean"][1]
    # On policy a clip does nothing, and a ratio has the gradient of the log-probability.
    both = [policy_gradient(surrogate=surrogate) for surrogate in ("clip", "reinforce")]
    gradients = [jax.grad(functools.partial(value_of, objective, alone, entropy))(logp) for objective in both]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_weights_follow_equations():
    batch, logp, entropy = packed([[4, 6], [3, 3, 2], [10]], 9)
    scores = scores_of(batch, logp, entropy)
    base = value_and_metrics(objectives.grpo(), scores, batch)[0]
    both = value_and_metrics(objectives.grpo(kl_weight=0.5, entropy_weight=0.1), scores, batch)[0]
    m, segments = batch.loss_mask_BxT, batch.segment_ids_BxT
    k3 = np.exp(batch.ref_logp_BxT - logp) - (batch.ref_logp_BxT - logp) - 1
    means = []
    for row in range(B):
        for s in range(1, S + 1):
            at = (segments[row] == s) & (m[row] > 0)
            if at.any():
                means.append((0.5 * k3 - 0.1 * entropy)[row, at].mean())
    np.testing.assert_allclose(both - base, np.mean(means), rtol=1e-4)
