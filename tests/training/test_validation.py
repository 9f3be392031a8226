"""The held-out loss: a mean over tokens, blind to how training was cut short, without an effect on what is learned."""

import json
import pathlib

import jax
import numpy as np
import pytest
from etils import epath
from tensorboardX.proto.event_pb2 import Event

from lrm_align import objectives
from lrm_align.training import TrainSettings, full, lora, make_mesh, make_step, train
from lrm_align.training.optimizers import OptimizerSettings, make_optimizer
from lrm_align.training.state import init_state
from lrm_align.training.validation import BEST, BOARD, FILE, Validation
from tests.training import tiny

STEPS = 6
TUNINGS = {"lora": lora(2, 4.0, dropout=0.1), "full": full()}


class Stopping(tiny.Loader):
    """Fails before a step."""

    def __init__(self, at):
        super().__init__(STEPS)
        self._at = at

    def steps(self, start=0):
        for step in range(start, len(self)):
            if step == self._at:
                raise RuntimeError("killed")
            yield self.batch(step)


class HeldOut(tiny.Loader):
    """Batches that no step trains on."""

    def batch(self, step):
        return tiny.batch(1000 + step)


def run(workdir, tuning="lora", loader=None, watched=True, every=1, **options):
    workdir = epath.Path(workdir)
    watch = Validation(tiny.MODEL, TUNINGS[tuning], HeldOut(3), make_mesh(), workdir, every, None, **options)
    trained = train(
        tiny.MODEL,
        tiny.MODEL.init(jax.random.key(1)),
        objectives.sft(),
        loader or tiny.Loader(STEPS),
        tuning=TUNINGS[tuning],
        optimizer=OptimizerSettings(learning_rate=3e-2),
        settings=TrainSettings(checkpoint_every=2),
        workdir=workdir,
        validation=watch if watched else None,
    )
    return trained, watch


def rows(workdir):
    return [json.loads(line) for line in (workdir / FILE).read_text().splitlines()]


def board_events(path):
    content, at = pathlib.Path(path).read_bytes(), 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 8], "little")
        yield Event.FromString(content[at + 12 : at + 12 + size])
        at += 16 + size


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_tensorboard_shows_it_beside_the_loss_of_training(tmp_path):
    run(tmp_path)
    [path] = (tmp_path / BOARD).glob("events.*")
    events = [event for event in board_events(str(path)) if event.summary.value]
    shown = {event.step: event.summary.value[0].simple_value for event in events}
    assert shown == pytest.approx({row["step"]: row["loss"] for row in rows(tmp_path)})
    assert {event.summary.value[0].tag for event in events} == {"loss"}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_it_is_the_loss_of_training_as_a_mean_over_all_tokens(tuning, tmp_path):
    params = tiny.MODEL.init(jax.random.key(1))
    _, watch = run(tmp_path, tuning)
    losses, tokens = [], []
    what = TUNINGS[tuning]._replace(dropout=0.0)
    schedule = make_optimizer(OptimizerSettings(), STEPS)
    step = jax.jit(make_step(tiny.MODEL, objectives.sft(), schedule, what, chunk=None))
    for batch in HeldOut(3).steps():
        state = init_state(jax.random.key(0), params, what, schedule.transform)
        _, report = step(state, what.freeze(params), batch)
        losses.append(float(report["loss"]))
        tokens.append(float(report["trained_tokens"]))
    assert len({*tokens}) > 1  # a mean of means would be another number
    assert watch.rows[0]["loss"] == pytest.approx(np.average(losses, weights=tokens), rel=1e-5)
    assert watch.rows[0]["tokens"] == sum(tokens)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", TUNINGS)
def test_watching_changes_nothing_of_what_is_learned(tuning, tmp_path):
    watched, _ = run(tmp_path / "watched", tuning, keep_best=True)
    alone, _ = run(tmp_path / "alone", tuning, watched=False)
    assert same(watched.trainable, alone.trainable)


@pytest.mark.parametrize(("every", "expected"), [(0, [0, 6]), (4, [0, 4, 6]), (3, [0, 3, 6])])
def test_when_it_measures(every, expected, tmp_path):
    run(tmp_path, every=every)
    assert [row["step"] for row in rows(tmp_path)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_run_that_was_killed_measures_as_if_it_had_not_been(at, tmp_path):
    """Measurements and the best state may be ahead of the checkpoint that the run goes on from."""
    run(tmp_path / "whole", keep_best=True)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "killed", loader=Stopping(at), keep_best=True)
    run(tmp_path / "killed", keep_best=True)
    whole, killed = rows(tmp_path / "whole"), rows(tmp_path / "killed")
    assert whole == killed
    best = min(whole, key=lambda row: row["loss"])["step"]
    assert [place.name for place in (tmp_path / "killed" / BEST).iterdir()] == [str(best)]


def test_the_lines_say_step_and_loss(tmp_path):
    lines = []
    run(tmp_path, every=0, log=lines.append)
    assert lines[0].startswith("held out after step 0: loss 4.") and lines[-1].startswith(
        "held out after step 6: loss "
    )
