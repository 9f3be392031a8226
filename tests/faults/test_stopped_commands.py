"""Real processes, stopped, killed, without room, or beside one another: one line, and the same command goes on."""

import pathlib
import re
import signal
import subprocess
import time

import pytest

from lrm_align import sample
from lrm_align.rl.locks import alone
from tests.faults import commands
from tests.faults.commands import SFT, Command

CONFIG = "quickstart.py"
STAGES = {"before": "[before]", "sample": "[sample]", "train": "compiled", "export": "[export]", "after": "[after]"}
ORDER = ["before", "sample", "filter", "train", "export", "after"]


def start(workdir, module="main", *flags):
    return Command(module, CONFIG, workdir, SFT, *flags)


def stopped_in(line, name, order, stage):
    """The directory of the stage that a line says was stopped: the one meant, or a later one on a fast machine."""
    match = re.fullmatch(rf"stopped by {name} in stage (\S+) \((\S+)\): .*; the same command goes on", line)
    assert match and match[1] in order[order.index(stage) :], line
    return pathlib.Path(match[2])


def finish(workdir):
    command = start(workdir)
    assert command.end() == 0, command.told
    return commands.rows(workdir, "train"), commands.whole(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run leaves that nothing disturbs."""
    found = finish(tmp_path_factory.mktemp("undisturbed"))
    assert len(found[0]) == 8 and len(found[1]) > 10
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_stopped_in_every_stage_it_goes_on(undisturbed, tmp_path, number, status, name):
    for stage, line in STAGES.items():
        command = start(tmp_path)
        command.until(line)
        time.sleep(0.3 if stage == "train" else 0.0)  # some steps
        command.send(number)
        assert command.end() == status, (stage, command.told)
        [told] = [line for line in command.told if not line.startswith("Ctrl-C: waits for ")]
        where = stopped_in(told, name, ORDER, stage)
        assert where.parent == tmp_path and where.is_dir()
        assert where.name.startswith("train-") or "is saved" not in told
    assert finish(tmp_path) == undisturbed


@pytest.mark.slow
def test_killed_in_every_stage_it_goes_on(undisturbed, tmp_path):
    for delay, line in enumerate([*STAGES.values(), "compiled", "compiled"]):
        command = start(tmp_path)
        try:
            command.until(line, seconds=60)
        except AssertionError:
            continue  # that stage is finished
        time.sleep(0.1 * delay)
        command.kill()
    assert finish(tmp_path) == undisturbed


@pytest.mark.slow
def test_reinforcement_killed_and_stopped_anywhere_goes_on(tmp_path):
    def reinforce(workdir):
        return Command("main", "lab_grpo_guard.py", workdir, commands.RL, "--stages=reinforce,export")

    whole = tmp_path / "whole"
    assert reinforce(whole).end() == 0
    disturbed = tmp_path / "disturbed"
    for turn in range(4):
        command = reinforce(disturbed)
        where = pathlib.Path(command.until("[reinforce]").split()[1])
        # Not before it has come a little further than the last time.
        wanted, end = min(2 * turn, 6), time.monotonic() + 120
        while wanted and not (where / "checkpoints" / str(wanted)).exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.1 * turn)
        if turn % 2:
            command.send(signal.SIGTERM)
            status = command.end()
            assert status == 143, command.told
            (line,) = command.told
            stopped = stopped_in(line, "SIGTERM", ["reinforce", "export"], "reinforce")
            assert stopped != where or f"({where}): step " in line
        else:
            command.kill()
    assert reinforce(disturbed).end() == 0
    assert len(commands.rows(whole, "reinforce")) == 9
    assert commands.rows(disturbed, "reinforce") == commands.rows(whole, "reinforce")
    assert commands.whole(disturbed) == commands.whole(whole) and commands.whole(whole)
    rollouts = [next(place.glob("reinforce-*/rollouts.jsonl")).read_text() for place in (whole, disturbed)]
    assert rollouts[0] == rollouts[1]


@pytest.mark.slow
def test_an_evaluation_stopped_anywhere_goes_on(tmp_path):
    def evaluate(workdir):
        return Command("evaluate", "evaluate_lab.py", workdir, commands.EVALUATION, "--sets=plain,arithmetic")

    whole, disturbed = tmp_path / "whole", tmp_path / "disturbed"
    first = evaluate(whole)
    assert first.end() == 0
    stages = [line.split()[0].strip("[]") for line in first.said if line.startswith("[")]
    assert len(stages) == 4
    for number, stage in zip((signal.SIGINT, signal.SIGTERM) * 2, stages):
        command = evaluate(disturbed)
        command.until(f"[{stage}]")
        command.send(number)
        assert command.end() == 128 + number, (stage, command.told)
        [line] = command.told
        stopped_in(line, "Ctrl-C" if number == signal.SIGINT else "SIGTERM", stages, stage)
    assert evaluate(disturbed).end() == 0
    assert commands.whole(disturbed) == commands.whole(whole) and commands.whole(whole)


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, which is mounted with options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", place], check=False, capture_output=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_one_line_and_no_work(undisturbed, disk):
    place = disk("size=64k")
    met = set()
    for size in (64, 300, 1000, 2200, 3300, 4200, 5500, 6500, 7500, 8500):
        subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)
        command = start(place / "run")
        status = command.end()
        if status == 0:
            break
        assert status == 2 and len(command.told) == 1, command.told
        assert command.told[0].startswith("error: ") and str(place) in command.told[0]
        assert command.told[0].endswith(
            "No space left on device; free some space there, then give the same command again: it goes on"
        )
        met.add(command.told[0].split(": ")[1])
    subprocess.run(["mount", "-o", "remount,size=100m", place], check=True)
    assert finish(place / "run") == undisturbed
    assert {"stage sample", "stage train"} <= met


@pytest.mark.slow
def test_a_read_only_disk_is_refused_before_anything_slow(disk):
    place = disk("ro")
    began = time.monotonic()
    command = start(place / "run")
    assert command.end() == 2 and time.monotonic() - began < 60
    assert len(command.told) == 1 and f"{place / 'run'} is not writable: Read-only file system" in command.told[0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sample", "filter", "train", "export", "after"])
def test_a_read_only_stage(undisturbed, tmp_path, stage):
    planned = start(tmp_path, "main", "--dry_run")
    assert planned.end() == 0
    (name,) = [line.split()[3] for line in planned.said if line.split()[:2] == [stage, "to"]]
    place = tmp_path / name
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        command = start(tmp_path)
        assert command.end() == 2 and len(command.told) == 1, command.told
        assert command.told[0].startswith(f"error: stage {stage}: cannot write ") and str(place) in command.told[0]
        assert command.told[0].endswith("Read-only file system; make it writable or give another --workdir")
    finally:
        subprocess.run(["umount", place], check=True)
    if stage == "train":
        assert finish(tmp_path) == undisturbed


def test_sample_and_main_do_not_work_in_one_workdir_at_once(tmp_path, capsys):
    with alone(tmp_path / "main.lock", "run"), pytest.raises(SystemExit) as stopped:
        sample.main(["sample", f"--config={commands.ROOT / 'configs' / CONFIG}", f"--workdir={tmp_path}"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a run (process ") and line.endswith("end it first, or use another workdir")


@pytest.mark.slow
def test_of_two_real_commands_the_second_is_refused_and_the_first_ends_well(undisturbed, tmp_path):
    first = start(tmp_path)
    first.until("[before]")
    for module in ("sample", "main"):
        second = start(tmp_path, module)
        assert second.end() == 2
        (line,) = second.told
        assert line.startswith("error: a run (process ") and str(tmp_path) in line
    assert first.end() == 0
    assert (commands.rows(tmp_path, "train"), commands.whole(tmp_path)) == undisturbed


@pytest.mark.slow
def test_a_dead_commands_lock_blocks_nobody(undisturbed, tmp_path):
    first = start(tmp_path, "sample")
    first.until("[sample]")
    first.send(signal.SIGSTOP)
    refused = start(tmp_path)
    assert refused.end() == 2 and len(refused.told) == 1
    first.kill()
    assert pathlib.Path(tmp_path / "main.lock").read_text()
    second = start(tmp_path, "sample")
    assert second.end() == 0, second.told
    assert finish(tmp_path) == undisturbed
