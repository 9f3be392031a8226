"""Objectives by their equations, with scores given by hand."""

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


def test_mistakes_are_named():
    with pytest.raises(UserError, match="direction is 'backward'; supported are forward, reverse"):
        objectives.kl_to_reference("backward")
    with pytest.raises(UserError, match="normalise is 'mean'"):
        objectives.where("benign", objectives.sft(), "mean")
    with pytest.raises(UserError, match="no objectives"):
        objectives.combine({})
    with pytest.raises(UserError, match="their tag names are: harmful, benign"):
        loss(objectives.where("rude", objectives.sft()))
