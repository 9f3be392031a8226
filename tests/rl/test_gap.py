"""The gap between sampler and learner is measured against the learner itself, whatever ratios are taken against."""

import dataclasses

import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import STEP, policy_gradient
from lrm_align.objectives.corrections import CORRECTIONS
from lrm_align.objectives.preflight import check_objective
from lrm_align.recipes.reinforcing import COLUMNS
from lrm_align.rl.against_sampler import against_sampler, check_sampling
from lrm_align.rl.batches import Packed
from lrm_align.rl.gap import with_gap
from lrm_align.rl.loop import _with_credit
from lrm_align.rl.settings import OLD_LOGP
from lrm_align.sampling import SamplingParams
from lrm_align.training.scores import KNOWN
from tests.rl import tiny

ONES = np.ones((1, 4), np.int32)
SAMPLER = np.float32([[0, -1.0, -1.5, -9.0]])
LEARNER = np.float32([[0, -3.0, -2.0, -1.0]])
MASK = np.float32([[0, 1, 1, 0]])
PACKED = Packed(
    Batch(ONES, ONES, np.arange(4, dtype=np.int32)[None], MASK, sampler_logp_BxT=SAMPLER), np.zeros((1, 1), np.int32)
)


def settings(old_logp: str, **changes):
    return dataclasses.replace(tiny.SETTINGS, old_logp=old_logp, **changes)


def metrics(old_logp: str, step: int = 0, updates: int = 1, objective=policy_gradient):
    """Of the minibatch's update, when the learner's log-probabilities are `LEARNER`, as before the step."""
    batch = _with_credit(PACKED, {"logp": LEARNER}, np.ones((1, 1), np.float32), settings(old_logp))
    made = objective()
    made = with_gap(against_sampler(made) if old_logp == "sampler" else made, updates)
    return made.loss({"logp": LEARNER}, batch, made.normalizers(batch) | {STEP: np.int32(step)})[1]


@pytest.mark.parametrize("old_logp", OLD_LOGP)
def test_it_is_the_distance_of_sampler_and_learner(old_logp):
    total, weight = metrics(old_logp)["gap/mean"]
    assert total / weight == pytest.approx((2.0 + 0.5) / 2) and weight == 2
    assert metrics(old_logp)["gap/histogram"][0].sum() == 2


def test_ratios_are_those_to_the_sampler():
    found = metrics("sampler")["ratio/mean"]
    assert found[0] / found[1] == pytest.approx(np.exp([-2.0, -0.5]).mean())


def test_later_updates_of_a_step_are_not_compared_with_its_samples():
    """The policy has moved by then: without old log-probabilities of its beginning there is nothing to compare."""
    for step, weight in ((0, 2), (1, 0), (2, 0), (3, 2)):
        assert metrics("sampler", step, updates=3)["gap/mean"][1] == weight
        assert metrics("recomputed", step, updates=3)["gap/mean"][1] == 2


@pytest.mark.parametrize("correction", [name for name in CORRECTIONS if name != "none"])
def test_a_correction_of_nothing_is_refused(correction):
    whole = objectives.combine({"rl": (1.0, objectives.where("harmful", objectives.dapo(correction=correction)))})
    options = {"tag_names": ("harmful",), "columns": COLUMNS}
    check_objective("mine:loss", whole, KNOWN, **options)
    with pytest.raises(UserError, match=f"is \"sampler\", so that .* correction '{correction}' needs .*recomputed"):
        check_objective("mine:loss", against_sampler(whole), KNOWN, **options)


def test_what_needs_no_sampler_of_its_own_is_not_refused():
    masked = policy_gradient(masks=[("off_policy_sequence", 0.1), ("top_entropy", 0.2), "truncated"], kl_weight=0.1)
    check_objective("mine:loss", against_sampler(masked), KNOWN, columns=COLUMNS)
    with pytest.raises(UserError, match=r"^policy_gradient needs the batch column advantage_BxT"):
        check_objective("mine:loss", against_sampler(masked), KNOWN, columns=["sampler_logp_BxT"])


@pytest.mark.parametrize("change", [{"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}, {"temperature": 0.7}], ids=str)
def test_samples_of_another_distribution_are_refused(change):
    ((name, value),) = change.items()
    params = [SamplingParams(), SamplingParams(**change)]
    with pytest.raises(UserError, match=f"drawn with {name} = {value}: ratios"):
        check_sampling(settings("sampler"), params)
    check_sampling(settings("recomputed"), params)
    check_sampling(settings("sampler", temperature=0.7), [SamplingParams(temperature=0.7)])


@pytest.mark.slow
def test_a_run_measures_a_sampler_that_is_not_the_learner(monkeypatch):
    """One whose log-probabilities are off by half a nat, in steps of two updates each."""
    from lrm_align.rl import batches

    recorded = batches.np.nan_to_num

    class Off:
        nan_to_num = staticmethod(lambda values: recorded(values) - 0.5)

        def __getattr__(self, name):
            return getattr(np, name)

    monkeypatch.setattr(batches, "np", Off())
    lines: list[str] = []
    changes = {"steps": 2, "minibatches": 2, "checkpoint_every": 0}
    for old_logp in ("sampler", "recomputed"):
        learned = tiny.run(None, settings(old_logp, **changes), log=lines.append)
        assert [row["gap/mean"] for row in learned.rows] == pytest.approx([0.5, 0.5], abs=1e-4)
        assert any("differ by 0.500 nats" in line for line in lines)
