import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.traces import Plan

RULES = [{"batch_traces": 3}, {"batch_rows": 4}]
rules = st.sampled_from([{"batch_traces": 1}, {"batch_traces": 5}, {"batch_rows": 1}, {"batch_rows": 4}])


@st.composite
def plans(draw):
    lengths = draw(st.lists(st.integers(1, 30), min_size=2, max_size=40))
    pairs = draw(st.integers(0, len(lengths) // 2))
    numbers = draw(st.permutations(range(len(lengths))))[: 2 * pairs]
    arguments = {
        "row_length": draw(st.integers(30, 60)), "seed": draw(st.integers(0, 9)), "epochs": draw(st.integers(1, 3)),
        "max_segments": draw(st.integers(2, 8)), "pairs_Px2": np.array(numbers, int).reshape(-1, 2),
        "overlong": "truncate", **draw(rules),
    }  # fmt: skip
    return lengths, arguments


@given(plans())
@settings(max_examples=150, deadline=None)
def test_every_epoch_holds_every_trace_once_and_no_two_overlap(case):
    lengths, arguments = case
    plan = Plan(lengths, **arguments)
    pair_of = {int(trace): (number, place) for number, pair in enumerate(arguments["pairs_Px2"])
               for place, trace in enumerate(pair)}  # fmt: skip
    for epoch in range(plan.epochs):
        seen = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            layout = plan.batch(step)
            seen += layout.trace_K.tolist()
            taken = np.zeros((plan.rows, plan.row_length), int)
            partners = {}
            for trace, row, offset, length, segment, pair in zip(*(
                getattr(layout, field.name).tolist() for field in dataclasses.fields(layout)
            )):  # fmt: skip
                assert offset + length <= plan.row_length and 1 <= segment <= plan.max_segments
                assert not taken[row, offset : offset + length].any()
                taken[row, offset : offset + length] = segment
                assert length == plan.planned_lengths[trace] <= lengths[trace]
                assert (pair >= 0) == (trace in pair_of)
                if pair >= 0:
                    assert pair % 2 == pair_of[trace][1]
                    partners.setdefault((row, pair // 2), set()).add(pair_of[trace][0])
            assert all(len(names) == 1 for names in partners.values())
            for segments in taken:  # segments are numbered from 1 in order, and padding comes last
                filled = segments[segments > 0]
                assert (np.diff(filled) >= 0).all() and (segments[: filled.size] > 0).all()
                assert sorted(set(filled.tolist())) == list(range(1, len(set(filled.tolist())) + 1))
        assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("rule", RULES)
def test_a_step_depends_on_seed_and_step_alone(rule):
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    arguments = {"row_length": 64, "epochs": 4, **rule}
    plan = Plan(lengths, seed=1, **arguments)
    forward = [plan.batch(step) for step in range(plan.num_steps)]
    for step in np.random.default_rng(1).permutation(plan.num_steps):
        for other in (plan, Plan(lengths, seed=1, **arguments)):
            for field in dataclasses.fields(forward[step]):
                np.testing.assert_array_equal(
                    getattr(other.batch(step), field.name), getattr(forward[step], field.name)
                )

    def order(steps):
        return np.concatenate([layout.trace_K for layout in steps]).tolist()

    each = plan.steps_per_epoch
    orders = [order(forward[epoch * each : (epoch + 1) * each]) for epoch in range(4)]
    assert all(orders[0] != other for other in orders[1:])
    elsewhere = Plan(lengths, seed=2, **arguments)
    assert order([elsewhere.batch(step) for step in range(each)]) != orders[0]
    with pytest.raises(IndexError):
        plan.batch(plan.num_steps)


def test_batch_traces_gives_the_optimizer_what_it_would_see_unpacked():
    plan = Plan([4] * 10, row_length=8, seed=0, batch_traces=4, rows_multiple=4)
    assert [plan.batch(step).trace_K.size for step in range(plan.num_steps)] == [4, 4, 2]
    assert (plan.rows, plan.counts["left_over"], plan.counts["empty_rows"]) == (4, 0, 7)
    dropped = Plan([4] * 10, row_length=8, seed=0, batch_traces=4, leftover="drop")
    assert (dropped.num_steps, dropped.counts["left_over"], dropped.rows) == (2, 2, 2)


def test_rows_are_shuffled_and_the_rest_is_counted():
    plan = Plan([8] * 10, row_length=8, seed=0, batch_rows=4)
    assert (plan.num_steps, plan.counts["empty_rows"], plan.fill) == (3, 2, 80 / 96)
    dropped = Plan([8] * 10, row_length=8, seed=0, batch_rows=4, leftover="drop", epochs=2)
    assert (dropped.steps_per_epoch, dropped.counts["left_over"], dropped.fill) == (2, 2, 1.0)
    assert {dropped.batch(t).trace_K.size for t in range(4)} == {4}


def test_over_long_bundles_follow_the_rule_and_are_counted():
    lengths, pairs = [5, 12, 3, 9, 20], np.array([[2, 3]])
    arguments = {"row_length": 10, "seed": 0, "batch_rows": 1, "pairs_Px2": pairs}
    drop = Plan(lengths, **arguments)
    assert drop.counts["dropped_overlong"] == 3 and drop.traces().tolist() == [0]
    cut = Plan(lengths, overlong="truncate", **arguments)
    assert cut.planned_lengths.tolist() == [5, 10, 3, 7, 10]
    assert cut.counts["truncated"] == 3 and cut.counts["cut_tokens"] == 2 + 2 + 10
    with pytest.raises(UserError, match="trace number 4, has 20"):
        Plan(lengths, overlong="error", **arguments)
    with pytest.raises(UserError, match="none of 2 bundles"):
        Plan([11, 12], row_length=10, seed=0, batch_rows=1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_traces": 2}, "not both"),
        ({"batch_rows": None}, "set either"),
        ({"row_length": 0}, "row_length"),
        ({"rows_multiple": 3}, "rows_multiple=3"),
        ({"seed": -1}, "seed"),
        ({"overlong": "split"}, "split"),
        ({"batch_rows": 64, "rows_multiple": 1, "leftover": "drop"}, "do not make one batch"),
        ({"pairs_Px2": [[0, 0]]}, "twice"),
        ({"pairs_Px2": [[0, 7]]}, "beyond"),
        ({"pairs_Px2": [[0, 1]], "max_segments": 1}, "max_segments"),
    ],
)
def test_contradictions_are_named(change, named):
    with pytest.raises(UserError, match=named):
        Plan([3, 4, 2], **{"row_length": 8, "seed": 0, "batch_rows": 2, **change})
    with pytest.raises(UserError, match="empty"):
        Plan([3, 0], row_length=8, seed=0, batch_rows=2)
