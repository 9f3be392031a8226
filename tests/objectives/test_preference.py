"""Preference losses by their equations, and by what must not change or break them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import pairs
from lrm_align.objectives.pair_losses import DIVERGENCES, LOSSES

NEEDED = {"exo": {"label_smoothing": 0.1}, "simpo": {"beta": 2.0}}
VARIANTS = {
    **{name: {"loss": name, "beta": 0.3, **NEEDED.get(name, {})} for name in LOSSES},
    **{f"{name} divergence": {"divergence": name, "beta": 0.3} for name in (*DIVERGENCES, "alpha")},
    "length-desensitised": {"ld_alpha": 0.3, "beta": 0.3},
    "length-desensitised, no tail": {"ld_alpha": 0.0, "beta": 0.3},
    "with SFT": {"sft": 0.5, "beta": 0.3},
    "after divergence": {"loss": "ipo", "beta": 0.3, "train_on": "after_divergence", "sft": 0.2},
}


def random_batch(seed: int, rows: int = 2, segments: int = 6, length: int = 40) -> Batch:
    """Rows of pairs, loose traces and padding; the answers of a pair share a prompt and a beginning."""
    rng = np.random.default_rng(seed)
    columns = {name: np.zeros((rows, length), np.int32) for name in ("tokens", "ids", "positions")}
    mask, pair = np.zeros((rows, length), np.float32), np.full((rows, segments), -1, np.int32)
    for row in range(rows):
        at, segment, number = 0, 0, 0
        while segment < segments - 1 and at < length - 14:
            paired = rng.random() < 0.75
            shared = rng.integers(1, 9, rng.integers(2, 4))
            for side in range(2 if paired else 1):
                own = np.concatenate([shared, rng.integers(9, 20, rng.integers(1, 4)) + 20 * side])
                part = slice(at, at + own.size)
                columns["tokens"][row, part], columns["ids"][row, part] = own, segment + 1
                columns["positions"][row, part] = np.arange(own.size)
                mask[row, at + 1 : at + own.size] = rng.random(own.size - 1) < 0.8
                mask[row, at + own.size - 1] = 1
                if paired:
                    pair[row, segment] = 2 * number + side
                at, segment = at + own.size, segment + 1
            number += paired
    return Batch(columns["tokens"], columns["ids"], columns["positions"], mask, pair_BxS=pair)


def random_scores(seed: int, shape: tuple[int, int], spread: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (-spread * rng.random(shape)).astype(np.float32) for name in ("logp", "reference.logp")}


MADE = {name: objectives.preference(**options) for name, options in VARIANTS.items()}


@jax.jit
def normalizers_of(batch):
    return {name: objective.normalizers(batch) for name, objective in MADE.items()}


@jax.jit
def evaluated(scores, batch, normalizers):
    """{variant: ((loss, metrics), gradient)}: one program for all, since compiling is what costs."""

    def one(objective, normalizers):
        used = {name: scores[name] for name in objective.needs}
        return jax.value_and_grad(lambda s: objective.loss(s, batch, normalizers), has_aux=True)(used)

    return {name: one(objective, normalizers[name]) for name, objective in MADE.items()}


def everything(scores, batch):
    """The same on a whole batch."""
    return everything_of(scores, batch, normalizers_of(batch))


def everything_of(scores, batch, normalizers):
    return jax.device_get(evaluated(scores, batch, normalizers))


@pytest.fixture(scope="module")
def plain():
    """(batch, scores, what all variants make of them)."""
    batch, scores = random_batch(4), random_scores(4, (2, 40))
    return batch, scores, everything(scores, batch)


def sides(batch: Batch, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(chosen, rejected) values under the mask, pair by pair, by loops."""
    found = []
    for row in range(len(batch.pair_BxS)):
        for number in range(batch.pair_BxS.shape[1]):
            where = [np.flatnonzero(batch.pair_BxS[row] == 2 * number + side) for side in (0, 1)]
            if all(w.size for w in where):
                at = [(batch.segment_ids_BxT[row] == w[0] + 1) & (batch.loss_mask_BxT[row] > 0) for w in where]
                found.append((values[row, at[0]], values[row, at[1]]))
    return found


def test_dpo_by_its_equation(plain):
    batch, scores, found = plain
    (loss, metrics), _ = found["sigmoid"]
    ratios = [(c.sum(), r.sum()) for c, r in sides(batch, scores["logp"] - scores["reference.logp"])]
    margins = np.array([0.3 * (c - r) for c, r in ratios])
    np.testing.assert_allclose(loss, np.log1p(np.exp(-margins)).mean(), rtol=1e-5)
    for name, wanted in [
        ("rewards/chosen", [0.3 * c for c, _ in ratios]),
        ("rewards/rejected", [0.3 * r for _, r in ratios]),
        ("rewards/margin", margins),
        ("rewards/accuracy", margins > 0),
        ("logp/chosen", [c.sum() for c, _ in sides(batch, scores["logp"])]),
        ("logp/rejected", [r.sum() for _, r in sides(batch, scores["logp"])]),
    ]:
        np.testing.assert_allclose(metrics[name], [np.sum(wanted), len(ratios)], rtol=1e-4, err_msg=name)


def test_losses_without_a_reference_by_their_equations(plain):
    batch, scores, found = plain
    assert MADE["simpo"].needs == MADE["orpo"].needs == {"logp"}
    answers = sides(batch, scores["logp"])
    means = np.array([(c.mean(), r.mean()) for c, r in answers])
    (loss, metrics), _ = found["simpo"]
    np.testing.assert_allclose(loss, np.log1p(np.exp(-(2.0 * (means[:, 0] - means[:, 1]) - 0.5))).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["rewards/chosen"][0], 2.0 * means[:, 0].sum(), rtol=1e-5)
    (loss, metrics), _ = found["orpo"]
    odds, chosen = means - np.log1p(-np.exp(means)), np.concatenate([c for c, _ in answers])
    np.testing.assert_allclose(
        loss, 0.3 * np.log1p(np.exp(-(odds[:, 0] - odds[:, 1]))).mean() - chosen.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(metrics["nll"], [-chosen.sum(), chosen.size], rtol=1e-5)


AT_START = {"hinge": 1.0} | dict.fromkeys(
    ["sigmoid", "smoothed", "sigmoid_norm", "forward_kl divergence", "js divergence", "length-desensitised"],
    math.log(2),
)


def test_before_the_first_step():
    """Policy = reference: the loss is log 2 to the last bit, whatever the data."""
    logp = random_scores(2, (2, 40), 30.0)["logp"]
    found = everything({"logp": logp, "reference.logp": logp}, random_batch(2))
    for name, value in AT_START.items():
        (loss, metrics), _ = found[name]
        assert abs(float(loss) - np.float32(value)) <= np.spacing(np.float32(value)), name
        assert metrics["rewards/margin"][0] == 0 and metrics["rewards/accuracy"][0] == 0


def test_identities_between_losses():
    batch = random_batch(3)
    batch = batch.replace(loss_mask_BxT=((batch.positions_BxT > 0) & (batch.segment_ids_BxT > 0)).astype(np.float32))
    scores = with_equal_beginnings(batch, random_scores(3, (2, 40)))
    same = [
        {"loss": "smoothed", "label_smoothing": 0.0},
        {"loss": "robust", "label_smoothing": 0.0},
        {"ld_alpha": 1.0},
        {"sft": 0.0},
        {"train_on": "after_divergence"},  # a common beginning cancels in the margin
    ]

    @jax.jit
    def values():
        made = [objectives.preference(beta=0.3, **options) for options in ({}, *same, NEAR)]
        return [objective.loss(scores, batch, objective.normalizers(batch))[0] for objective in made]

    plain, *others, near = values()
    np.testing.assert_allclose(others, [plain] * len(same), rtol=1e-5)
    np.testing.assert_allclose(near, plain, rtol=1e-2)


NEAR = {"divergence": "alpha", "alpha": 0.999}


def with_equal_beginnings(batch: Batch, scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores that are equal where two answers have the same beginning, as a model's are."""
    by_place = np.random.default_rng(9).random((2, 64)).astype(np.float32)
    shared = batch.tokens_BxT < 9
    return {
        name: np.where(shared, -by_place[i][batch.positions_BxT], values)
        for i, (name, values) in enumerate(scores.items())
    }


def test_after_divergence_masks_the_common_beginning():
    tokens = np.int32([[1, 2, 3, 4, 5, 1, 2, 3, 9, 5, 6, 0], [7, 8, 7, 8, 9, 7, 5, 5, 5, 5, 5, 0]])
    ids = np.int32([[1] * 5 + [2] * 6 + [0], [1] * 2 + [2] * 3 + [3] * 6 + [0]])
    positions = np.int32([[*range(5), *range(6), 0], [*range(2), *range(3), *range(6), 0]])
    mask = (positions > 0).astype(np.float32)
    batch = Batch(tokens, ids, positions, mask, pair_BxS=np.int32([[1, 0, -1], [0, 1, -1]]))
    found = jax.jit(lambda batch: pairs.after_divergence(batch, pairs.seats(batch.pair_BxS)))(batch)
    assert found[0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0]
    # The first answer of the second row is a beginning of the other: nothing of it is left, and the pair is not
    # counted.
    assert not found[1, :4].any() and found[1, 4] == 1
    objective = objectives.preference(train_on="after_divergence")
    assert jax.jit(objective.normalizers)(batch)["pairs"] == 1


def test_order_of_rows_and_segments_and_padding(plain):
    batch, scores, wanted = plain
    turned = everything({n: v[::-1] for n, v in scores.items()}, jax.tree.map(lambda a: a[::-1], batch))
    place = [np.argsort(-row, kind="stable") for row in np.where(batch.segment_ids_BxT > 0, batch.segment_ids_BxT, -1)]
    flipped = everything({n: np.stack([v[i, p] for i, p in enumerate(place)]) for n, v in scores.items()},
                         segments_turned(batch, place))  # fmt: skip
    for name, ((loss, metrics), gradient) in wanted.items():
        for (other, others), _ in (turned[name], flipped[name]):
            np.testing.assert_allclose(other, loss, rtol=1e-5, err_msg=name)
            for key in metrics:
                np.testing.assert_allclose(others[key], metrics[key], rtol=1e-5, err_msg=f"{name} {key}")
        for key, values in gradient.items():
            np.testing.assert_allclose(turned[name][1][key][::-1], values, rtol=1e-4, atol=1e-6, err_msg=name)
            moved = np.stack([values[i, p] for i, p in enumerate(place)])
            np.testing.assert_allclose(flipped[name][1][key], moved, rtol=1e-4, atol=1e-6, err_msg=name)


def segments_turned(batch: Batch, place) -> Batch:
    """The traces of each row in the opposite order; `place` says where each token comes from."""
    moved = {}
    for name in ("tokens_BxT", "segment_ids_BxT", "positions_BxT", "loss_mask_BxT"):
        moved[name] = np.stack([getattr(batch, name)[i, p] for i, p in enumerate(place)])
    pair = np.full_like(batch.pair_BxS, -1)
    for row, ids in enumerate(moved["segment_ids_BxT"]):
        top = int(ids.max())
        pair[row, :top] = batch.pair_BxS[row, :top][::-1]
        moved["segment_ids_BxT"][row] = np.where(ids > 0, top + 1 - ids, 0)
    moved["tokens_BxT"] = np.where(moved["segment_ids_BxT"] > 0, moved["tokens_BxT"], 5)
    return batch.replace(**moved, pair_BxS=pair)


def test_pieces_add_up_to_the_batch(plain):
    batch, scores, wanted = plain
    normalizers = normalizers_of(batch)
    # A piece has the shape of the batch, and other rows in place of the missing ones: nothing is compiled anew.
    other = random_batch(14)
    empty = other.replace(pair_BxS=np.full_like(other.pair_BxS, -1))
    rows = [jax.tree.map(lambda a, b, i=i: np.stack([a[i], b[i]]), batch, empty) for i in range(2)]
    parts = [everything_of({n: v[[i, i]] for n, v in scores.items()}, row, normalizers) for i, row in enumerate(rows)]
    for name, ((loss, metrics), gradient) in wanted.items():
        np.testing.assert_allclose(sum(part[name][0][0] for part in parts), loss, rtol=1e-5, err_msg=name)
        for key in metrics:
            both = np.sum([part[name][0][1][key] for part in parts], 0)
            np.testing.assert_allclose(both, metrics[key], rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")
        for key in gradient:
            both = np.stack([part[name][1][key][0] for part in parts])
            np.testing.assert_allclose(both, gradient[key], rtol=1e-5, atol=1e-7, err_msg=name)


def test_extremes_are_finite_and_what_is_not_trained_is_exactly_zero():
    batch = random_batch(6)
    rng = np.random.default_rng(6)
    paired = np.take_along_axis(batch.pair_BxS, np.maximum(batch.segment_ids_BxT - 1, 0), axis=1) >= 0
    trained = (batch.loss_mask_BxT > 0) & paired & (batch.segment_ids_BxT > 0)
    assert (batch.loss_mask_BxT > 0)[~trained].any(), "a trace without a partner is among them"
    nothing = batch.replace(loss_mask_BxT=np.zeros_like(batch.loss_mask_BxT))
    unpaired = batch.replace(pair_BxS=np.full_like(batch.pair_BxS, -1))
    for size in (1e4, 1.0):
        sign = np.where(rng.random((2, 40)) < 0.5, -size, size).astype(np.float32)
        scores = {"logp": sign, "reference.logp": np.zeros((2, 40), np.float32)}
        poisoned = {key: np.where(trained, values, np.nan) for key, values in scores.items()}
        for name, ((loss, metrics), gradient) in everything(poisoned, batch).items():
            assert np.isfinite(loss) and all(np.isfinite(total) for total, _ in metrics.values()), name
            for values in gradient.values():
                assert np.isfinite(values).all() and not values[~trained].any(), name
        for empty in (nothing, unpaired):
            for name, ((loss, metrics), gradient) in everything(poisoned, empty).items():
                assert loss == 0 and all(total == weight == 0 for total, weight in metrics.values()), name
                assert not any(values.any() for values in gradient.values()), name


def test_a_pair_with_an_empty_side_does_not_count(plain):
    batch, scores, _ = plain
    at = int(np.flatnonzero(batch.pair_BxS[0] == 1)[0]) + 1
    mask = batch.loss_mask_BxT.copy()
    mask[0, batch.segment_ids_BxT[0] == at] = 0
    without = batch.replace(loss_mask_BxT=mask)
    counted = normalizers_of(without), normalizers_of(batch)
    assert all(counted[0][name]["pairs"] == counted[1][name]["pairs"] - 1 for name in MADE)
    removed = batch.pair_BxS.copy()
    removed[0, np.isin(removed[0], (0, 1))] = -1
    found, wanted = (everything(scores, other) for other in (without, batch.replace(pair_BxS=removed)))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_finite_differences(seed):
    """Along a random direction, in float64, for a sum of all variants with weights of no common measure."""
    with jax.enable_x64(True):
        batch = random_batch(seed)
        scores = {n: jnp.asarray(v, jnp.float64) for n, v in random_scores(seed, (2, 40)).items()}
        total, gradient = weighted(scores["logp"], scores["reference.logp"], batch)
        assert np.isfinite(total)
        direction = np.random.default_rng(seed).normal(size=(2, 40))
        ends = [weighted(scores["logp"] + s * 1e-6 * direction, scores["reference.logp"], batch)[0] for s in (-1, 1)]
        np.testing.assert_allclose((ends[1] - ends[0]) / 2e-6, np.sum(gradient * direction), rtol=1e-5, atol=1e-6)


@jax.jit
def weighted(logp, reference, batch):
    scores = {"reference.logp": reference}

    def loss(logp):
        values = [o.loss({**scores, "logp": logp}, batch, o.normalizers(batch))[0] for o in MADE.values()]
        return jnp.dot(jnp.stack(values), jnp.sqrt(jnp.arange(2.0, 2 + len(values))))

    return jax.value_and_grad(loss)(logp)


def test_where_takes_the_pairs_of_a_tag(plain):
    batch, scores, _ = plain
    tags = np.broadcast_to(np.int32([[0], [1]]), batch.pair_BxS.shape)
    tagged = batch.replace(tag_BxS=tags, tag_names=("harmful", "benign"))
    objective = objectives.preference(beta=0.3)
    own = objectives.where("harmful", objective, "own")
    loss = jax.jit(lambda o, s, b: o.loss(s, b, o.normalizers(b))[0], static_argnums=0)
    first = jax.tree.map(lambda a: a[:1], (scores, batch))
    np.testing.assert_allclose(loss(own, scores, tagged), loss(objective, *first), rtol=1e-6)


def test_mistakes_are_named():
    for options, named in [
        ({"loss": "sigmoyd"}, "did you mean sigmoid"),
        ({"beta": 0.0}, "beta is 0.0; it must be positive"),
        ({"beta": "0.1"}, "beta is '0.1'; it must be positive"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"loss": "robust", "label_smoothing": 0.5}, r"label_smoothing = 0.5; it must lie in \[0, 0.5\)"),
        ({"loss": "smoothed", "label_smoothing": -0.1}, "label_smoothing = -0.1"),
        ({"loss": "exo", "label_smoothing": 0.0}, "above 0"),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, "sigmoid has no label_smoothing; beside beta it takes nothing"),
        ({"loss": "ipo", "gamma": 0.1}, "ipo has no gamma"),
        ({"loss": "discopop", "tau": 0.0}, "tau = 0.0"),
        ({"loss": "discopop", "tau": math.nan}, "tau = nan"),
        ({"loss": "simpo", "gamma": math.nan}, "gamma is nan; a finite number"),
        ({"divergence": "alpha", "alpha": math.inf}, "alpha is inf; a finite number"),
        ({"divergence": "renyi"}, "divergence is 'renyi'"),
        ({"divergence": "alpha", "alpha": 1.0}, "reverse_kl"),
        ({"loss": "apo_zero", "divergence": "js"}, "apo_zero has no divergence js"),
        ({"ld_alpha": 1.5}, "ld_alpha is 1.5"),
        ({"sft": -1.0}, "sft is -1.0"),
        ({"train_on": "prompt"}, "train_on is 'prompt'"),
    ]:
        with pytest.raises(UserError, match=named):
            objectives.preference(**options)
    without = random_batch(0).replace(pair_BxS=None)
    with pytest.raises(UserError, match="no pair_BxS"):
        objectives.preference().normalizers(without)
