"""The trainer's side of separate jobs: which groups a step takes, whatever happens to anybody."""

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_align.errors import UserError
from lrm_align.rl import beats, group_shards, ledger, orders, policies, sealed, separate
from lrm_align.rl.group import StoppedError
from lrm_align.rl.ledger import Ledger
from lrm_align.rl.locks import alone
from tests.rl import apart
from tests.rl.apart import ABOUT, Clock, accept, params, tickets


def order(shared):
    """The newest order."""
    return orders.newest(shared / "orders")


@pytest.mark.parametrize("count, staleness", [(1, 0), (1, 2), (3, 0), (3, 2)])
def test_every_step_takes_the_lowest_tickets_of_fresh_enough_policies(shared, count, staleness):
    samplers = [apart.sampler(shared, index, count) for index in range(count)]
    clock = Clock(*(sampler.turn for sampler in samplers))
    trainer = apart.trainer(shared, clock, steps=5, max_staleness=staleness, samplers=count)
    for step in range(5):
        taken = trainer.take(step, params(step), accept)
        assert tickets(taken.groups) == list(range(4 * step, 4 * step + 4))
        assert all(0 <= step - group.policy <= staleness for group in taken.groups)
        assert taken.groups == [apart.group(group.ticket, group.policy) for group in taken.groups]
        assert taken.facts["separate/stale"] == 0
        assert order(shared).until == min(4 * (step + 1 + staleness), 20)
    trainer.close()
    assert order(shared).stop and {sampler.turn() for sampler in samplers} == {None}
    asked = [ticket for sampler in samplers for ticket, _ in sampler._collector.asked]
    assert sorted(asked) == list(range(20))
    for index, sampler in enumerate(samplers):
        assert all(ticket % count == index for ticket, _ in sampler._collector.asked)


def test_samplers_work_ahead_while_the_trainer_updates_as_far_as_the_staleness_allows(shared):
    sampler = apart.sampler(shared, chunk=100)
    trainer = apart.trainer(shared, Clock(sampler.turn), max_staleness=1)
    trainer.take(0, params(0), accept)
    while sampler.turn():
        pass
    assert sampler._collector.asked == [(ticket, 0) for ticket in range(8)]
    trainer.take(1, params(1), accept)
    while sampler.turn():
        pass
    assert sampler._collector.asked[8:] == [(ticket, 1) for ticket in range(8, 12)]


def test_stale_groups_are_refused_counted_and_replaced(shared):
    slow, fast = apart.sampler(shared, 0, 2), apart.sampler(shared, 1, 2)
    clock = Clock(fast.turn, slow.turn)
    trainer = apart.trainer(shared, clock, max_staleness=1, samplers=2)
    trainer.take(0, params(0), accept)
    for ticket in (8, 9):  # written late, by a policy from before the run
        group_shards.write(shared / "groups", apart.group(ticket, 0), trainer._recipe_hash)
    trainer.take(1, params(1), accept)
    taken = trainer.take(2, params(2), accept)
    assert tickets(taken.groups) == [10, 11, 12, 13] and taken.facts["separate/stale"] == 2
    assert sealed.read(shared / "steps" / sealed.name(2), "lrm_align.step/1")["stale"] == [8, 9]
    assert order(shared).until == 18  # two more than without


@pytest.mark.parametrize("max_refills, used", [(0, [1, 2]), (1, [1, 2, 4]), (4, [1, 2, 4, 5])])
def test_groups_without_credit_are_replaced_as_far_as_the_refills_go(shared, max_refills, used):
    sampler, dropped = apart.sampler(shared), [0, 3]
    trainer = apart.trainer(shared, Clock(sampler.turn), max_refills=max_refills)
    taken = trainer.take(0, params(0), lambda group: group.ticket % 3 > 0)
    assert (tickets(taken.groups), tickets(taken.dropped)) == (used, dropped)
    assert len(sampler._collector.asked) == len(used) + len(dropped)  # nothing in vain
    following = trainer.take(1, params(1), accept)
    assert tickets(following.groups) == list(range(len(used) + 2, len(used) + 6))
    again = apart.trainer(shared, Clock(most=1)).take(0, params(0), accept)
    assert (tickets(again.groups), tickets(again.dropped)) == (used, dropped)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_trainer_killed_after_the_record_takes_the_same_groups_without_samplers(shared, step):
    sampler = apart.sampler(shared)
    trainer = apart.trainer(shared, Clock(sampler.turn), max_staleness=1)
    first = [trainer.take(number, params(number), accept) for number in range(3)]
    again = apart.trainer(shared, Clock(most=1), max_staleness=1)  # from an older checkpoint; nobody samples
    for number in range(step, 3):
        taken = again.take(number, params(number), lambda group: False)
        assert taken.groups == first[number].groups
    assert sorted(sealed.numbers(shared / "steps")) == [0, 1, 2]


def test_a_trainer_killed_while_it_waits_goes_on_with_what_is_there(shared):
    sampler = apart.sampler(shared, chunk=3)
    clock = Clock(lambda: sampler.turn() and False)
    trainer = apart.trainer(shared, clock)
    with pytest.raises(StoppedError, match="waited for 1 of 4 groups"):
        trainer.take(0, params(0), accept, stop=lambda: bool(sampler._collector.asked))
    assert sealed.numbers(shared / "steps") == []
    again = apart.trainer(shared, clock)
    assert tickets(again.take(0, params(0), accept).groups) == [0, 1, 2, 3]
    assert [ticket for ticket, _ in sampler._collector.asked] == [0, 1, 2, 3]


def test_a_record_cut_by_a_kill_was_never_written(shared):
    sampler = apart.sampler(shared)
    apart.trainer(shared, Clock(sampler.turn)).take(0, params(0), accept)
    place = shared / "steps" / sealed.name(0)
    place.write_bytes(place.read_bytes()[:30])
    assert tickets(apart.trainer(shared, Clock()).take(0, params(0), accept).groups) == [0, 1, 2, 3]


def test_without_the_last_record_nobody_knows_what_is_used_up(shared):
    with pytest.raises(UserError, match=r"00000004\.json: missing"):
        apart.trainer(shared, Clock()).take(5, params(5), accept)


@pytest.mark.parametrize("remove", [True, False])
def test_a_group_that_a_record_names_must_be_sound(shared, remove):
    sampler = apart.sampler(shared)
    apart.trainer(shared, Clock(sampler.turn)).take(0, params(0), accept)
    shard = group_shards.find(shared / "groups", 2)
    if remove:
        (shared / "groups" / "00000000" / shard.manifest.file_name).unlink()
    else:
        shard.path.write_bytes(b"x" * shard.manifest.bytes)
    with pytest.raises(UserError, match="ticket 2, whose group is missing" if remove else "checksum"):
        apart.trainer(shared, Clock()).take(0, params(0), accept)


def spoil(path, how):
    """Damages a group's file."""
    raw = path.read_bytes()
    path.write_bytes({"cut": raw[:-9], "flipped": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "garbage": b"?}\n"}[how])


@pytest.mark.parametrize("what", ["cut data", "flipped data", "flipped manifest", "garbage manifest"])
def test_a_damaged_group_is_named_refused_and_replaced(shared, what):
    how, part = what.split()
    sampler, said = apart.sampler(shared), []

    def work():
        done = sampler.turn()
        if done and (sampler._collector.asked[-1][0] == 3):
            shard = group_shards.find(shared / "groups", 1)
            folder = shared / "groups" / "00000000"
            spoil(shard.path if part == "data" else folder / shard.manifest.file_name, how)
        return done

    trainer = apart.trainer(shared, Clock(work), log=said.append)
    taken = trainer.take(0, params(0), accept)
    assert tickets(taken.groups) == [0, 2, 3, 4] and taken.facts["separate/damaged"] == 1
    assert "ticket-000000000001" in said[0] and "another group replaces it" in said[0]


@pytest.mark.parametrize("foreign", ["recipe", "samples", "policies", "ticket"])
def test_foreign_groups_are_refused(shared, foreign):
    trainer = apart.trainer(shared, Clock())
    mine = apart.group(0, 0)
    traces = {
        "recipe": mine.traces,
        "samples": mine.traces[:1],
        "policies": (mine.traces[0], mine.traces[1].replace(policy=1)),
        "ticket": apart.group(5, 0).traces,
    }[foreign]
    group_shards.write(
        shared / "groups", mine._replace(traces=traces), "other" if foreign == "recipe" else trainer._recipe_hash
    )
    sampler = apart.sampler(shared)
    trainer._sleep = Clock(sampler.turn).sleep
    taken = trainer.take(0, params(0), accept)
    assert tickets(taken.groups) == [1, 2, 3, 4] and taken.facts["separate/damaged"] == 1


def test_of_two_trainers_the_one_started_later_goes_on(shared):
    sampler = apart.sampler(shared)
    clock = Clock(sampler.turn)
    first, second = (apart.trainer(shared, clock) for _ in range(2))
    with pytest.raises(UserError, match=r"another trainer \(process \d+ on .*\) was started here later"):
        first.take(0, params(0), accept)
    assert tickets(second.take(0, params(0), accept).groups) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="started here later"):
        first.close()


def test_of_two_trainers_that_do_not_see_each_other_one_writes_the_record(shared, monkeypatch):
    clock = Clock(apart.sampler(shared).turn)
    first, second = (apart.trainer(shared, clock) for _ in range(2))
    monkeypatch.setattr(first, "_check_alone", lambda: None)  # as if both had looked at the same moment

    def meanwhile(group):
        return group.ticket < 3 or bool(second.take(0, params(0), accept).groups)

    with pytest.raises(UserError, match=r"00000000\.json: another trainer works here at the same time"):
        first.take(0, params(0), meanwhile)
    assert sealed.read(shared / "steps" / sealed.name(0), "lrm_align.step/1")["start"] == 1


def test_a_living_trainer_locks_a_local_workdir(tmp_path):
    with alone(tmp_path / "main.lock", "run"):
        refused = pytest.raises(UserError, match=r"a run \(process \d+ on .*\) works in .* already")
        with refused as error, alone(tmp_path / "main.lock", "run"):
            pass
        assert "\n" not in str(error.value)
    with alone(tmp_path / "main.lock", "run"):
        pass


@pytest.mark.parametrize("part", sorted(ABOUT))
def test_a_trainer_of_something_else_is_refused(shared, part):
    sampler = apart.sampler(shared)
    apart.trainer(shared, Clock(sampler.turn)).take(0, params(0), accept)
    with pytest.raises(UserError, match=f"of another {part}"):
        apart.trainer(shared, Clock(), about={**ABOUT, part: "other"})


@pytest.mark.parametrize("name, value", [("max_staleness", -1), ("samplers", 0)])
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(UserError, match=r"config\.rl\.(max_staleness|sampler_count) is"):
        apart.trainer(tmp_path, Clock(), **{name: value})


def test_other_hosts_of_the_trainer_take_what_the_first_one_records(tmp_path):
    sampler = apart.sampler(tmp_path)
    other = apart.trainer(tmp_path, Clock(), leader=False, sleep=lambda seconds: threading.Event().wait(0.01))
    found = []
    thread = threading.Thread(target=lambda: found.append(other.take(0, params(0), accept)))
    thread.start()
    taken = apart.trainer(tmp_path, Clock(sampler.turn)).take(0, params(0), accept)
    thread.join(10)
    assert found[0].groups == taken.groups and sealed.numbers(tmp_path / "trainers") == [0]
    other.close()
    assert not order(tmp_path).stop


def test_a_run_goes_on_with_another_number_of_samplers(shared):
    before = [apart.sampler(shared, index, 2) for index in range(2)]
    apart.trainer(shared, Clock(*(one.turn for one in before)), samplers=2, max_staleness=1).take(0, params(0), accept)
    after = [apart.sampler(shared, index, 3) for index in range(3)]
    clock = Clock(*(one.turn for one in after))
    trainer = apart.trainer(shared, clock, samplers=3, max_staleness=1)
    orders.give(shared / "orders", order(shared)._replace(samplers=3))
    with pytest.raises(UserError, match="--sampler=i/3"):
        before[0].turn()
    found = [trainer.take(step, params(step), accept) for step in range(1, 4)]
    assert [tickets(one.groups) for one in found] == [list(range(4 * step, 4 * step + 4)) for step in range(1, 4)]
    asked = [ticket for one in (*before, *after) for ticket, _ in one._collector.asked]
    assert sorted(asked) == list(range(len(asked)))  # none twice


class TestSilence:
    """Samplers that die: the others get their tickets, and nothing that they finished is lost."""

    def test_the_others_get_the_tickets_of_a_silent_sampler(self, shared):
        alive = apart.sampler(shared, 1, 2)
        clock = Clock(alive.turn)
        said = []
        trainer = apart.trainer(shared, clock, samplers=2, patience=60, log=said.append)

        life = beats.Beat(shared / "samplers", 1, 2)
        clock.workers.append(life._write)
        taken = trainer.take(0, params(0), accept)
        assert tickets(taken.groups) == [1, 3, 5, 7] and clock.now > 60
        assert "step 0 has waited for" in said[0] and "2 of 4 groups are missing" in said[0]
        assert "sampler 0/2 never started" in said[0] and "sampler 1/2 is waiting, last sign" in said[0]
        late = apart.sampler(shared, 0, 2)
        clock.workers.append(late.turn)
        late_life = beats.Beat(shared / "samplers", 0, 2)
        clock.workers.append(late_life._write)
        taken = [trainer.take(step, params(step), accept) for step in (1, 2)]
        assert [tickets(one.groups) for one in taken] == [[0, 2, 4, 6], [16, 17, 18, 19]]
        assert taken[1].facts["separate/stale"] == 8  # both had sampled what was ordered of one

    def test_a_sampler_that_says_it_ended_is_not_waited_for(self, shared):
        with pytest.raises(OSError), beats.Beat(shared / "samplers", 0, 2):
            raise OSError("No space left on device")
        alive, said = apart.sampler(shared, 1, 2), []
        clock = Clock(alive.turn)
        trainer = apart.trainer(shared, clock, samplers=2, log=said.append)
        assert tickets(trainer.take(0, params(0), accept).groups) == [1, 3, 5, 7]
        assert clock.now < 5 and said == []
        assert "sampler 0/2 ended (No space left on device)" in trainer._lives.describe()

    def test_nobody_at_all_is_waited_for_and_named(self, shared):
        said = []
        clock = Clock()
        trainer = apart.trainer(shared, clock, log=said.append)
        with pytest.raises(StoppedError):
            trainer.take(0, params(0), accept, stop=lambda: clock.now > 200)
        assert len(said) == 3  # after 30, 60, 120 seconds
        assert "no sampler has shown a sign of life: start python -m lrm_align.sample --follow" in said[0]
        assert order(shared).until == 4

    def test_what_a_silent_sampler_left_far_behind_is_settled(self, shared, monkeypatch):
        monkeypatch.setattr(separate, "GIVE_UP_AFTER", 2)
        with beats.Beat(shared / "samplers", 0, 2):
            pass
        alive = apart.sampler(shared, 1, 2)
        trainer = apart.trainer(shared, Clock(alive.turn), samplers=2)
        given_up = [trainer.take(step, params(step), accept).facts["separate/given_up"] for step in range(5)]
        assert given_up[0] == 0 and given_up[-1] == 4
        book = trainer._book(5)
        assert len(book.beyond) <= 8 and book.first > 24
        late = apart.sampler(shared, 0, 2, chunk=1)
        late.turn()
        assert late._collector.asked[0][0] >= order(shared).first  # it does not go back to what nobody waits for


@given(st.lists(st.integers(0, 30)), st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=60)
def test_the_book(settled, wanted, count, silent):
    book = Ledger().settle(settled)
    assert all(book.settled(ticket) == (ticket in settled) for ticket in range(40))
    assert book == Ledger().settle(reversed(settled)) and book.first not in book.beyond
    living = set(range(count)) - {silent} or {0}
    until = ledger.until(book, wanted, lambda ticket: ticket % count in living)
    there = [ticket for ticket in range(until) if ticket not in settled and ticket % count in living]
    assert len(there) == wanted and there[-1] == until - 1
    shares = [ledger.share(index, count, range(until), settled) for index in range(count)]
    assert sorted(itertools.chain(*shares)) == [ticket for ticket in range(until) if ticket not in settled]


def test_policies_and_orders_are_cleared_away(shared, monkeypatch):
    monkeypatch.setattr(orders, "KEEP", 3)
    sampler = apart.sampler(shared)
    trainer = apart.trainer(shared, Clock(sampler.turn))
    for step in range(6):
        trainer.take(step, params(step), accept)
    assert sealed.numbers(shared / "policies") == [3, 4, 5] and policies.newest(shared / "policies") == 5
    assert sealed.numbers(shared / "orders") == [3, 4, 5]


def test_tickets_beyond_a_folder(shared, monkeypatch):
    monkeypatch.setattr(group_shards, "PER_FOLDER", 3)
    sampler = apart.sampler(shared)
    trainer = apart.trainer(shared, Clock(sampler.turn))
    found = [tickets(trainer.take(step, params(step), accept).groups) for step in range(3)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert sorted(group_shards.tickets(shared / "groups", 2, 9)) == list(range(2, 9))
    assert list(group_shards.tickets(shared / "groups", 5, 5)) == []
