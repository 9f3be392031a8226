"""Evaluation and training prompts: disjoint, balanced, the same in every run."""

import collections
import re

import pytest

from lrm_align.lab.prompts import EvaluationSizes, TrainingSizes, evaluation, training
from lrm_align.lab.world import TOPICS, split_topics
from lrm_align.lab.wrappers import BY_NAME, split_wrappers

SMALL = EvaluationSizes(attack=96, wrapped=96, lookalike=96, arithmetic=120, fact=120)


def topics_in(prompts):
    return {word for prompt in prompts for word in re.findall("[a-z]+", prompt.text)} & set(TOPICS)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_training_meets_no_held_out_topic_wrapper_or_problem(seed):
    sets, train = evaluation(seed, SMALL), training(seed)
    tested = [prompt for prompts in sets.values() for prompt in prompts]
    split = split_topics(seed)
    assert topics_in(tested) == set(split.harmful_test + split.safe_test)
    assert not topics_in(train) & topics_in(tested)
    assert not {p.text for p in sets["arithmetic"]} & {p.text for p in train}
    held = {wrapper.name for wrapper in split_wrappers(seed).test}
    assert {p.meta["wrapper"] for p in sets["wrapped"]} == held
    assert not held & {name for p in train if p.kind == "wrapped" for name in p.meta["wrapper"].split("+")}


def test_training_is_balanced_and_half_wrapped():
    prompts = training(0)
    counts = collections.Counter((p.label, p.kind) for p in prompts)
    assert counts == {
        ("harmful", "request"): 300,
        ("harmful", "wrapped"): 300,
        ("benign", "request"): 300,
        ("benign", "wrapped"): 300,
        ("benign", "arithmetic"): 300,
        ("benign", "fact"): 150,
    }
    assert len({p.id for p in prompts}) == len(prompts)
    assert len({p.text for p in prompts if p.kind == "request"}) == 600
    families = collections.Counter(
        BY_NAME[p.meta["wrapper"].split("+")[0]].family for p in prompts if p.kind == "wrapped"
    )
    assert min(families.values()) > 100
    assert any("+" in p.meta["wrapper"] for p in prompts if p.kind == "wrapped")


def test_prompts_are_functions_of_the_seed():
    assert evaluation(3, SMALL) == evaluation(3, SMALL) and training(3) == training(3)
    assert evaluation(3, SMALL)["attack"] != evaluation(4, SMALL)["attack"]


def test_sets_are_large_enough_for_the_table():
    sets = evaluation(0)
    assert all(len(sets[name]) >= 500 for name in ("attack", "wrapped", "lookalike", "fact"))
    assert len(sets["arithmetic"]) >= 1000
    assert len({p.text for p in sets["attack"]}) == len(sets["attack"])
    assert {p.label for p in sets["attack"] + sets["wrapped"]} == {"harmful"}
    assert {p.label for p in sets["lookalike"]} == {"benign"}


def test_small_sets_are_allowed():
    assert [len(prompts) for prompts in evaluation(0, EvaluationSizes(1, 2, 3, 4, 5)).values()] == [1, 2, 3, 4, 5]
    assert training(0, TrainingSizes(1, 0, 0, 0))[0].label == "harmful"
