"""The world: names, truths and the splits of a seed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.lab import world
from lrm_align.lab.wrappers import FAMILIES, HELD_OUT_A_FAMILY, SHOWN, WRAPPERS, split_wrappers


def test_topics_are_distinct_and_balanced():
    assert len(set(world.TOPICS)) == 2 * world.TOPICS_A_SIDE
    assert len(world.HARMFUL_POOL) >= 48 and len(world.SAFE_POOL) >= 48
    assert all(world.is_harmful(topic) for topic in world.HARMFUL)
    assert not any(world.is_harmful(topic) for topic in world.SAFE)
    assert set(world.EFFECT) == set(world.TOPICS)


@settings(max_examples=30, deadline=None)
@given(st.integers(-(10**9), 10**9))
def test_topic_split_is_a_partition_and_tests_only_the_pool(seed):
    split = world.split_topics(seed)
    assert set(split.harmful_test) <= set(world.HARMFUL_POOL) and set(split.safe_test) <= set(world.SAFE_POOL)
    assert sorted(split.harmful_test + split.harmful_train) == sorted(world.HARMFUL)
    assert sorted(split.safe_test + split.safe_train) == sorted(world.SAFE)
    assert split == world.split_topics(seed)


@settings(max_examples=30, deadline=None)
@given(st.integers(-(10**9), 10**9))
def test_wrapper_split_holds_out_two_a_family_that_no_safety_format_shows(seed):
    split = split_wrappers(seed)
    for family in FAMILIES:
        assert sum(wrapper.family == family for wrapper in split.test) == HELD_OUT_A_FAMILY
    assert not set(split.test) & set(SHOWN)
    assert set(split.test) | set(split.train) == set(WRAPPERS) and not set(split.test) & set(split.train)


def test_splits_differ_between_seeds():
    assert len({world.split_topics(seed).harmful_test for seed in range(5)}) == 5
    assert len({tuple(w.name for w in split_wrappers(seed).test) for seed in range(8)}) > 4


def test_every_family_has_at_least_six_wrappers_and_each_keeps_verb_and_topic():
    random_ = world.rng("test")
    for family in FAMILIES:
        assert sum(wrapper.family == family for wrapper in WRAPPERS) >= 6
    for wrapper in WRAPPERS:
        wrapped = wrapper.apply(random_, "make", "bolak", "Give me the steps to make a bolak.")
        assert " bolak" in wrapped and " make" in wrapped
