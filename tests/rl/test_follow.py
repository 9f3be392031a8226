"""The sampler's side of separate jobs."""

import errno
import json
import os
import pathlib
import signal
import threading
import time

import jax
import pytest
from etils import epath
from ml_collections import ConfigDict

from lrm_align import sample, stopping
from lrm_align.errors import UserError
from lrm_align.recipes import following
from lrm_align.recipes.stage import Stage
from lrm_align.recipes.stage import run as run_stages
from lrm_align.rl import beats, follow, orders, sealed
from tests.rl import apart
from tests.rl.apart import ORDER, Clock, accept, finish, give, params, tickets, tickets_of, written

ROOT = pathlib.Path(__file__).parents[2]


def test_it_waits_for_an_order_and_for_the_policy_of_it(shared):
    sampler = apart.sampler(shared)
    assert sampler.turn() is False
    orders.give(shared / "orders", ORDER)
    assert sampler.turn() is False and sampler.policy is None  # the policy was removed, or another order follows
    give(shared)
    finish(sampler)
    assert written(shared) == list(range(8))
    orders.give(shared / "orders", ORDER._replace(stop=True))
    assert sampler.turn() is None


def test_it_reads_a_policy_once_and_the_newest_alone(shared):
    give(shared)
    give(shared, policy=5, until=4)
    sampler = apart.sampler(shared)
    finish(sampler)
    assert sampler._collector.asked == [(ticket, 5) for ticket in range(4)]
    (shared / "policies" / sealed.name(5)).unlink()
    orders.give(shared / "orders", ORDER._replace(policy=5, until=6))
    finish(sampler)
    assert written(shared) == list(range(6))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shares_cover_all_tickets_once(shared, count):
    give(shared, samplers=count, first=3, until=17)
    for index in range(count):
        finish(apart.sampler(shared, index, count))
    assert written(shared) == list(range(3, 17))


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3, 5])
def test_started_again_it_goes_on_with_what_is_missing(shared, killed_after):
    give(shared)
    killed = apart.sampler(shared, chunk=1)
    for _ in range(killed_after):
        killed.turn()
    if killed_after:  # the last group was cut while its manifest was written
        place = shared / "groups" / "00000000" / f"ticket-{killed_after - 1:012d}.manifest.json"
        place.write_bytes(place.read_bytes()[:40])
    again = apart.sampler(shared)
    finish(again)
    assert tickets_of(again) == list(range(max(0, killed_after - 1), 8)) and written(shared) == list(range(8))


def test_as_many_samplers_as_the_trainer_knows_of(shared):
    give(shared, samplers=3)
    with pytest.raises(UserError, match=r"--sampler=0/2: .* 3 samplers; wanted --sampler=i/3"):
        apart.sampler(shared, 0, 2).turn()
    with pytest.raises(UserError, match=r"--sampler=2/2: the first number must be one of 0…1"):
        apart.sampler(shared, 2, 2)


def test_it_ends_with_the_run_and_tells_how_it_went(shared):
    lines = []
    give(shared)

    def sleep(seconds):
        assert written(shared) == list(range(8))
        orders.give(shared / "orders", ORDER._replace(stop=True))

    assert follow.follow(apart.sampler(shared), shared, sleep=sleep, log=lines.append) == 8
    assert lines[0] == f"sampler 0/1 follows {shared}"
    assert lines[-1].startswith("sampler 0/1 ends: policy 0, 8 groups, 16 traces, ") and len(lines) == 2
    assert beats._read(shared / "samplers" / "0.json")["state"] == "ended"


def test_progress_lines(shared, monkeypatch):
    monkeypatch.setattr(follow, "LINE_EVERY", 0.0)
    lines = []

    def sleep(seconds):
        give(shared) if len(lines) == 2 else orders.give(shared / "orders", ORDER._replace(stop=len(lines) > 7))

    follow.follow(apart.sampler(shared, chunk=4), shared, sleep=sleep, log=lines.append)
    assert "no order yet, 0 groups" in lines[1] and lines[1].endswith("idle for 100% of the time")
    assert any("policy 0, 8 groups" in line for line in lines)


def test_sigterm_ends_it_cleanly_and_keeps_what_is_whole(tmp_path):
    give(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def kill(ticket):
        if ticket == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("SIGTERM did nothing")

    sampler = apart.sampler(tmp_path, chunk=1, collector=apart.Collector(kill))
    with pytest.raises(stopping.Stopped, match="SIGTERM: 5 groups are written; the same command goes on") as stopped:
        follow.follow(sampler, tmp_path, log=lambda line: None)
    assert stopped.value.code == 143
    assert written(tmp_path) == [0, 1, 2, 3, 4] and signal.getsignal(signal.SIGTERM) is before
    finish(apart.sampler(tmp_path))
    assert written(tmp_path) == list(range(8))


def test_one_process_a_sampler(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match="a sampler is one process, found 4"):
        follow.follow(apart.sampler(tmp_path), tmp_path)


class TestSigns:
    """Signs of life."""

    def test_a_sign_changes_while_its_writer_lives(self, shared):
        clock = Clock()
        lives = beats.Lives(shared, 2, patience=10, clock=clock)
        with beats.Beat(shared, 0, 2, seconds=0.01) as life:
            life.tell(state="sampling")
            for _ in range(4):
                clock.now += 8
                before = beats._read(shared / "0.json")
                while beats._read(shared / "0.json") in (before, {}):
                    time.sleep(0.001)
                assert 0 in lives.living()
            assert lives.living() == {0}  # the other never came
            assert "sampler 0/2 is sampling, last sign 0 s ago; sampler 1/2 never started" in lives.describe()
        clock.now += 2
        assert lives.living() == {0, 1}  # nobody lives: everybody is waited for
        assert lives.describe().startswith("sampler 0/2 ended;")

    @pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"3"])
    def test_a_sign_that_is_just_being_written_is_passed_over(self, shared, raw):
        with beats.Beat(shared, 0, 1):
            (shared / "0.json").write_bytes(raw)
            lives = beats.Lives(shared, 1)
            assert lives.living() == {0} and "no sampler has shown a sign of life" in lives.describe()

    def test_a_full_disk_does_not_end_the_signs(self, tmp_path, monkeypatch):
        def no_space(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with beats.Beat(epath.Path(tmp_path), 0, 1, seconds=0.01) as life:
            monkeypatch.setattr(type(life._path), "write_bytes", no_space)
            time.sleep(0.05)
            monkeypatch.undo()
            before = beats._read(tmp_path / "0.json")
            for _ in range(1000):
                time.sleep(0.01)
                if beats._read(tmp_path / "0.json") not in (before, {}):
                    return
            raise AssertionError("no sign any more")


class TestCommand:
    """`python -m lrm_align.sample --follow`: what is wrong is said in one line."""

    CASES = {  # noqa: RUF012
        ("quickstart", "--follow"): "quickstart does not learn from rollouts: its config has no rl",
        ("quickstart", "--sampler=0/1"): "--sampler=0/1 says nothing without --follow",
        ("lab_arithmetic", "--follow", "--sampler=1/2"): "--sampler=1/2 with config.rl.sampler_count = 1; wanted",
        ("lab_arithmetic", "--follow"): 'no stage for samplers; config.rl.mode = "separate" makes one',
        ("lab_arithmetic:separate", "--follow", "--config.rl.max_staleness=-1"): "config.rl.max_staleness is -1",
    }

    @pytest.mark.parametrize("flags", CASES)
    def test_mistakes(self, tmp_path, capsys, flags):
        name, _, preset = flags[0].partition(":")
        config = f"--config={ROOT / 'configs' / name}.py" + (f":{preset}" if preset else "")
        with pytest.raises(SystemExit) as stop:
            sample.main(["sample", config, f"--workdir={tmp_path}", *flags[1:]])
        [error] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[transformers]")]
        assert stop.value.code == 2 and error.startswith("error: ") and self.CASES[flags] in error


class TestJoining:
    """How a sampler's job finds the run that it belongs to."""

    CONFIG = ConfigDict({"rl": {"sampler_count": 1}, "mesh": {"data": 1}, "model": {"path": "a"}})

    def stages(self, done):
        def train(directory, inputs):
            return {}

        def sample(directory, inputs, index, count):
            done.append((directory.name, {name: path.name for name, path in inputs.items()}, index, count))
            return 5

        return [Stage("warm", {}, train), Stage("learn", {}, train, ("warm",), sample), Stage("after", {}, train)]

    def test_it_waits_until_the_run_comes_to_its_stage(self, tmp_path):
        done, lines, root = [], [], epath.Path(tmp_path)
        stages = self.stages(done)

        def sleep(seconds):
            if not (root / "run.json").exists():
                (root / "run.json").write_text('{"config": {"rl": {"sampler_count": 1}, "mesh": 3, "model": {"path"')
            elif not [path for path in root.iterdir() if path.name.startswith("warm")]:
                (root / "run.json").write_text('{"config": {"rl": {"sampler_count": 1}, "model": {"path": "a"}}}')
                run_stages(stages, root, ["warm"], log=lambda line: None)
            else:
                next(p for p in following.plan(stages, root) if p.stage.name == "learn").directory.mkdir()

        assert following.follow(stages, self.CONFIG, root, (1, 3), lines.append, sleep) == 5
        [(name, inputs, *mine)] = done
        assert name.startswith("learn-") and list(inputs) == ["warm"] and mine == [1, 3]
        assert "to come to its stage learn after warm" in lines[0]

    @pytest.mark.parametrize("theirs", [{"model": {"path": "a", "dtype": "x"}}, {"seed": 1}])
    def test_a_run_of_another_config_is_refused(self, tmp_path, theirs):
        config = {"rl": {"sampler_count": 1}, "mesh": {"data": 8}, "model": {"path": "a"}, **theirs}
        (tmp_path / "run.json").write_text(json.dumps({"config": config}))
        with pytest.raises(UserError, match=r"run\.json: the run there has another config: config\.(model|seed)"):
            following.follow(self.stages([]), self.CONFIG, epath.Path(tmp_path), (0, 1), lambda line: None)

    @pytest.mark.parametrize(
        "theirs",
        [
            {"mesh": {"data": 8}},
            {"wandb": "mine"},
            {"rl": {"sampler_count": 3, "log_every": 9}},
            {"model": {"path": "elsewhere", "remat": "full"}},
        ],
    )
    def test_what_cannot_change_a_result_is_the_samplers_own(self, tmp_path, theirs):
        config = {"rl": {"sampler_count": 1}, "model": {"path": "a"}, **theirs}
        (tmp_path / "run.json").write_text(json.dumps({"config": config}))
        assert following._difference(self.CONFIG, epath.Path(tmp_path)) == ""

    def test_a_finished_stage_needs_nobody(self, tmp_path):
        done, root = [], epath.Path(tmp_path)
        run_stages(self.stages(done), root, log=lambda line: None)
        assert following.follow(self.stages(done), self.CONFIG, root, (0, 1)) == 0 and done == []

    def test_a_recipe_without_samplers(self, tmp_path):
        with pytest.raises(UserError, match="no stage for samplers"):
            following.follow(self.stages([])[:1], self.CONFIG, epath.Path(tmp_path), (0, 1))

    @pytest.mark.parametrize("text, count", [("2/2", 2), ("0/3", 2), ("1", 2), ("a/b", 2), (None, 2), ("-1/2", 2)])
    def test_shares_that_are_none(self, text, count):
        with pytest.raises(UserError, match=r"config\.rl\.sampler_count = 2; wanted one of --sampler=0/2 … 1/2"):
            following.share(text, count)


def test_two_samplers_at_once_in_threads_and_a_trainer(tmp_path):
    """The real loop with real waiting, everybody at once."""
    results = {}

    def work(index):
        sampler = apart.sampler(tmp_path, index, 2)
        results[index] = follow.follow(sampler, tmp_path, index, 2, poll=0.05, log=lambda line: None)

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(2)]
    for thread in threads:
        thread.start()
    trainer = apart.trainer(tmp_path, samplers=2, max_staleness=1, steps=6)
    taken = [trainer.take(step, params(step), accept) for step in range(6)]
    trainer.close()
    for thread in threads:
        thread.join(20)
    assert sorted(ticket for one in taken for ticket in tickets(one.groups)) == list(range(24))
    assert results == {0: 12, 1: 12}
