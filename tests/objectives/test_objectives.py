"""Objectives by their equations, with scores given by hand."""

import jax
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import Objective

MASK = np.float32([[0, 1, 1, 0, 1, 0], [0, 1, 0, 1, 1, 1]])
SEGMENTS = np.int32([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 2, 2]])
BATCH = Batch(
    SEGMENTS,
    SEGMENTS,
    SEGMENTS,
    MASK,
    tag_BxS=np.int32([[0, 1, -1], [1, -1, 0]]),
    tag_names=("harmful", "benign"),
)
RNG = np.random.default_rng(0)
SCORES = {name: RNG.uniform(-3, -1, (2, 6)).astype(np.float32) for name in ("logp", "kl_forward", "kl_reverse")}
HARMFUL = np.float32([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
BENIGN = np.float32([[0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0]])


def loss(objective, batch=BATCH):
    return objective.loss(SCORES, batch, objective.normalizers(batch))


def test_sft_is_the_token_mean():
    value, metrics = loss(objectives.sft())
    np.testing.assert_allclose(value, -(MASK * SCORES["logp"]).sum() / MASK.sum(), rtol=1e-6)
    np.testing.assert_allclose(metrics["nll"], [-(MASK * SCORES["logp"]).sum(), MASK.sum()], rtol=1e-6)


def test_pieces_add_up_where_means_of_means_would_not():
    objective = objectives.sft()
    normalizers = objective.normalizers(BATCH)
    pieces = []
    for row in (0, 1):
        piece = BATCH.replace(loss_mask_BxT=MASK[row : row + 1])
        pieces.append(objective.loss({"logp": SCORES["logp"][row : row + 1]}, piece, normalizers)[0])
    whole, _ = loss(objective)
    np.testing.assert_allclose(sum(pieces), whole, rtol=1e-6)
    means = [-(MASK[r] * SCORES["logp"][r]).sum() / MASK[r].sum() for r in (0, 1)]
    assert abs(np.mean(means) - whole) > 1e-3


@pytest.mark.parametrize(("normalise", "divisor"), [("batch", MASK), ("own", MASK * BENIGN)])
def test_where_masks_by_tag(normalise, divisor):
    value, metrics = loss(objectives.where("benign", objectives.kl_to_reference(), normalise))
    expected = (MASK * BENIGN * SCORES["kl_forward"]).sum()
    np.testing.assert_allclose(value, expected / divisor.sum(), rtol=1e-6)
    np.testing.assert_allclose(metrics["kl_forward"], [expected, (MASK * BENIGN).sum()], rtol=1e-6)


def test_where_without_such_traces_is_zero():
    for normalise in ("batch", "own"):
        value, metrics = loss(
            objectives.where("harmful", objectives.sft(), normalise), BATCH.replace(tag_BxS=np.full((2, 3), -1))
        )
        assert value == 0 and metrics["nll"] == (0, 0)


def test_thinksafe_with_kl_is_a_sum_over_parts():
    objective = objectives.combine(
        {
            "refuse": (1.0, objectives.where("harmful", objectives.sft())),
            "keep": (2.0, objectives.where("benign", objectives.kl_to_reference("reverse"))),
        }
    )
    value, metrics = loss(objective)
    expected = -(MASK * HARMFUL * SCORES["logp"]).sum() + 2 * (MASK * BENIGN * SCORES["kl_reverse"]).sum()
    np.testing.assert_allclose(value, expected / MASK.sum(), rtol=1e-6)
    assert set(metrics) == {"refuse/nll", "keep/kl_reverse"}
    assert objective.needs == {"logp", "kl_reverse"} and objective.batch_statistics is None


def test_statistics_of_the_batch_reach_their_own_part():
    def statistics(scores, batch):
        return {"top": (batch.loss_mask_BxT * scores["logp"]).min()}

    centred = Objective(
        frozenset({"logp"}), lambda batch: {}, lambda s, b, n: ((s["logp"] - n["top"]).sum(), {}), statistics
    )
    objective = objectives.combine({"a": (1.0, objectives.where("benign", centred)), "b": (1.0, objectives.sft())})
    found = objective.batch_statistics(SCORES, BATCH)
    np.testing.assert_allclose(found["a/top"], (MASK * BENIGN * SCORES["logp"]).min())
    value, _ = objective.loss(SCORES, BATCH, objective.normalizers(BATCH) | found)
    np.testing.assert_allclose(value, (SCORES["logp"] - found["a/top"]).sum() + loss(objectives.sft())[0], rtol=1e-5)


def test_a_weight_may_follow_the_step():
    """Also in a combination within a combination and within a tag; without a step it is step 0."""
    warm = objectives.schedules.linear(0.0, 1.0, steps=10)
    inner = objectives.combine({"sft": (warm, objectives.sft())})
    nested = objectives.combine(
        {"a": (2.0, objectives.where("benign", inner)), "b": (warm, objectives.kl_to_reference())}
    )
    parts = [loss(objectives.where("benign", objectives.sft()))[0], loss(objectives.kl_to_reference())[0]]
    normalizers = nested.normalizers(BATCH)
    assert objectives.STEP not in normalizers
    for step, weight in ((None, 0.0), (0, 0.0), (4, 0.4), (10, 1.0), (99, 1.0)):
        known = normalizers if step is None else normalizers | {objectives.STEP: np.int32(step)}
        found = jax.jit(lambda n: nested.loss(SCORES, BATCH, n)[0])(known)
        np.testing.assert_allclose(found, weight * (2 * parts[0] + parts[1]), rtol=1e-6)


def test_a_part_of_weight_zero_is_watched():
    value, metrics = loss(objectives.combine({"sft": (1, objectives.sft()), "kl": (0.0, objectives.kl_to_reference())}))
    np.testing.assert_allclose(value, loss(objectives.sft())[0])
    assert metrics["kl/kl_forward"][0] > 0 or metrics["kl/kl_forward"][0] < 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.combine({"a": ("much", objectives.sft())}), "weight of 'a' is 'much'; a finite number"),
        (lambda: objectives.combine({"a": (float("nan"), objectives.sft())}), "weight of 'a' is nan"),
        (lambda: objectives.combine({"a/b": (1.0, objectives.sft())}), "'a/b' can't name a part"),
        (lambda: objectives.combine({"step": (1.0, objectives.sft())}), "'step' can't name a part"),
        (lambda: objectives.schedules.linear(0.0, 1.0, 0), "linear: steps is 0; a whole number of at least 1"),
        (lambda: objectives.schedules.cosine(0.0, 1.0, 2, -1), "cosine: delay is -1; a whole number of at least 0"),
        (lambda: objectives.schedules.constant(float("inf")), "constant: value is inf; a finite number"),
    ],
)
def test_mistakes_in_weights_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="direction is 'backward'; supported are forward, reverse"):
        objectives.kl_to_reference("backward")
    with pytest.raises(UserError, match="normalise is 'mean'"):
        objectives.where("benign", objectives.sft(), "mean")
    with pytest.raises(UserError, match="no objectives"):
        objectives.combine({})
    with pytest.raises(UserError, match="their tag names are: harmful, benign"):
        loss(objectives.where("rude", objectives.sft()))
