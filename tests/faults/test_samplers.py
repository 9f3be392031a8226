"""Samplers of separate jobs: garbage, full disks, others in their place. Nothing finished is lost."""

import errno
import os

import pytest

from lrm_align.errors import UserError
from lrm_align.rl import follow, orders, sealed
from lrm_align.rl.locks import alone
from lrm_align.traces import shards
from tests.rl import apart
from tests.rl.apart import ABOUT, ORDER, Clock, accept, finish, give, params, tickets, tickets_of, written


def test_of_two_samplers_with_one_index_the_second_to_finish_a_ticket_ends(shared):
    give(shared)
    twin = apart.sampler(shared, chunk=1)
    first = apart.sampler(shared, collector=apart.Collector(before=lambda ticket: twin.turn()))
    with pytest.raises(UserError, match=r"another process works as sampler 0/1 of .*just finished ticket 0") as error:
        first.turn()
    assert "\n" not in str(error.value)
    finish(twin)
    assert written(shared) == list(range(8)) == tickets_of(twin)


def test_on_a_local_disk_the_second_is_refused_at_once(tmp_path):
    refused = pytest.raises(UserError, match=r"a sampler 0/2 \(process \d+ on .*\) works in .* already")
    with alone(tmp_path / "samplers" / "0.lock", "sampler 0/2"), refused:
        follow.follow(apart.sampler(tmp_path, 0, 2), tmp_path, 0, 2)
    give(tmp_path, samplers=2, stop=True)
    assert follow.follow(apart.sampler(tmp_path, 0, 2), tmp_path, 0, 2) == 0


@pytest.mark.parametrize("part", sorted(ABOUT))
def test_a_sampler_of_something_else_is_refused_by_hash(shared, part):
    give(shared)
    other = apart.sampler(shared, about={**ABOUT, part: "other"})
    with pytest.raises(UserError, match=f"of another {part}: its {part} is {ABOUT[part]}, this job's is other"):
        other.turn()
    assert written(shared) == []


ORDERS = {
    "garbage": (b"no order}\n", "not JSON"),
    "cut": (b'{"kind": "lrm_align.order/1", "pol', None),
    "empty": (b"", None),
    "forged": (b'{"kind": "lrm_align.order/1", "policy": 9, "seal": "0"}\n', "own checksum"),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_garbage_for_an_order(shared, kind):
    raw, message = ORDERS[kind]
    give(shared, until=2)
    (shared / "orders" / sealed.name(7)).write_bytes(raw)
    (shared / "orders" / "notes.txt").write_bytes(b"hello")
    sampler = apart.sampler(shared)
    if message is None:  # a trainer was killed while it wrote it
        finish(sampler)
        assert written(shared) == [0, 1]
    else:
        with pytest.raises(UserError, match=rf"00000007\.json: damaged.*{message}"):
            sampler.turn()


@pytest.mark.parametrize("change", [{"until": -1}, {"samplers": 0}, {"policy": "3"}, {"stop": 1}, {"about": 3}])
def test_orders_out_of_range(shared, change):
    sealed.create(shared / "orders" / sealed.name(0), orders.KIND, {**ORDER._asdict(), **change})
    with pytest.raises(UserError, match=r"00000000\.json: an order whose fields"):
        apart.sampler(shared).turn()


def test_a_damaged_policy_ends_the_sampler_in_one_line(shared):
    give(shared)
    (path,) = [path for path in (shared / "policies").iterdir() if path.name.endswith("safetensors")]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=rf"{path.name}: truncated") as error:
        apart.sampler(shared).turn()
    assert "\n" not in str(error.value)


class FullDisk:
    """Instead of `ArrayRecordWriter` and `describe`: how a full disk shows."""

    def __init__(self, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullScratch(FullDisk):
    """As ArrayRecord says it."""

    def __init__(self, *arguments):
        raise RuntimeError("write() failed: No space left on device; at byte 0; Failed to close chunk_writer")


@pytest.mark.parametrize("name, writer", [("describe", FullDisk), ("ArrayRecordWriter", FullScratch)])
def test_a_full_disk_ends_one_sampler_and_the_others_go_on(shared, monkeypatch, name, writer):
    give(shared, samplers=2)
    with monkeypatch.context() as patch:
        patch.setattr(shards, name, writer)
        with pytest.raises(
            UserError, match=r"cannot write shard 'ticket-000000000000' in .*: .*No space left on device"
        ):
            follow.follow(apart.sampler(shared, 0, 2), shared, 0, 2, log=lambda line: None)
    said, alive = [], apart.sampler(shared, 1, 2)
    clock = Clock(alive.turn)
    trainer = apart.trainer(shared, clock, samplers=2, max_staleness=1, log=said.append)
    found = [tickets(trainer.take(step, params(step), accept).groups) for step in range(3)]
    assert found == [[1, 3, 5, 7], [9, 11, 13, 15], [17, 19, 21, 23]] and clock.now < 5
    assert "sampler 0/2 ended (cannot write shard 'ticket-000000000000'" in trainer._lives.describe()
