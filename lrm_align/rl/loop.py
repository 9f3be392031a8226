"""An RL run, from top to bottom: take groups, give credit, update, show."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from lrm_align import processes, stopping
from lrm_align.advantages import Transform, broadcast
from lrm_align.batch import Batch
from lrm_align.chat import Chat
from lrm_align.rl.batches import Packed, per_sample
from lrm_align.rl.credit import Credit, Creditor, has_spread
from lrm_align.rl.group import Source, StoppedError, TraceGroup
from lrm_align.rl.learner import Learner
from lrm_align.rl.reporter import Clock, Reporter
from lrm_align.rl.settings import RLSettings
from lrm_align.rl.task import Task, Tickets
from lrm_align.training.loop import AT_THE_STEP, kept
from lrm_align.training.metrics import Window
from lrm_align.training.scores import REFERENCE_LOGP


class Learned(NamedTuple):
    """What a run leaves in memory.

    Attributes:
      params: of the last policy, adapters attached.
      trainable: what trained.
      rows: the metrics of the steps that this process did.
    """

    params: Any
    trainable: Any
    rows: list[dict[str, float]]


def reinforce(
    learner: Learner,
    source: Source,
    task: Task,
    tickets: Tickets,
    advantage: Transform,
    settings: RLSettings,
    chat: Chat,
    *,
    workdir: epath.Path | None = None,
    log: Callable[[str], None] = print,
) -> Learned:
    """Trains the learner's policy on groups of its own rollouts.

    A step that is done again after a kill is done alike: its groups depend on the step's number, the policy and the
    seed, or were recorded by the source.

    Args:
      learner: holds the policy.
      source: of groups.
      task: what is asked, and what it is worth.
      tickets: which prompt a group asked.
      advantage: rewards to credit.
      settings: sizes and frequencies.
      chat: for the table of sample rollouts.
      workdir: for metrics and sample rollouts; nothing is written without one.
      log: takes progress lines and warnings.

    Raises:
      UserError: rewards that are no numbers, or none in many steps.
      NotFiniteError: an update gave NaN or infinity; the last checkpoint stays.
      CannotWriteError: a checkpoint or the metrics could not be written; the checkpoint before stays.
      Stopped: after Ctrl-C or SIGTERM: the state was saved, and the same call goes on from there.
    """
    begin, every = learner.step, settings.checkpoint_every
    if begin:
        log(f"resumed after step {begin} of {settings.steps}")
    creditor = Creditor(task, advantage, settings.groups, settings.samples)
    accept = has_spread(task) if settings.dynamic else lambda group: True
    report = Reporter(settings, tickets, chat, workdir, begin, log)
    report.restore(learner.report)
    with stopping.deferred(AT_THE_STEP) as asked, _closing(report, learner):
        stops = processes.Highest()
        for step in range(begin, settings.steps):
            clock, window = Clock(), Window()
            try:
                taken = source.take(step, learner.params(), accept, lambda: asked() is not None)
            except StoppedError as stopped:
                saved = step
                if processes.count() > 1:  # the others wait for the groups, and cannot save with this one
                    saved -= step % every if every else 0
                elif every and step > begin and step % every:
                    learner.save(report.saved())  # else it was when the step before ended
                raise stopping.Stopped(
                    asked() or signal.SIGTERM, f"{stopped}; {kept(saved if every else None)}"
                ) from None
            clock.lap("rollout", grading=taken.grading_s)
            credit, batches = prepare(learner, taken.groups, creditor, settings)
            clock.lap("credit")
            for batch in batches:
                window.add(step, learner.update(batch))
            clock.lap("train")
            report.add(step, taken, credit, window, clock)
            done, stop = step + 1, stops.of(asked() or 0)
            learner.check()
            if every and (done % every == 0 or done == settings.steps or stop):
                learner.save(report.saved())
            if stop:
                raise processes.AllStop(stop, kept(done if every else None))
        source.close()
        # A signal of the last step, of which the others have not heard yet.
        if stop := max(processes.each("the last step", asked() or 0)):
            raise processes.AllStop(stop, kept(settings.steps if every else None))
    return Learned(*learner.trained(), report.rows)


@contextlib.contextmanager
def _closing(report: Reporter, learner: Learner) -> Iterator[None]:
    """What was begun is written at the end, also on the way out of a failure, and nothing else."""
    with contextlib.ExitStack() as stack:
        stack.callback(learner.close)
        stack.callback(report.close)
        yield


def prepare(
    learner: Learner, groups: Sequence[TraceGroup], creditor: Creditor, settings: RLSettings
) -> tuple[Credit, list[Batch]]:
    """Credit for the groups of a step, and the batches of all its updates.

    The columns are made before the first update: old log-probabilities and KL are of the policy that the step starts
    from. The order of the minibatches is the same in every epoch.
    """
    each = settings.groups // settings.minibatches
    parts = [groups[begin : begin + each] for begin in range(0, settings.groups, each)]
    packed = [learner.pack([trace for group in part for trace in group.traces]) for part in parts]
    scores = [learner.scores(one.batch) for one in packed]
    kl_GxN = None
    if settings.kl_in_reward:
        sums = [
            per_sample(found["logp"] - found[REFERENCE_LOGP], one, len(part) * settings.samples)
            for found, one, part in zip(scores, packed, parts)
        ]
        kl_GxN = np.concatenate(sums).reshape(-1, settings.samples)
    credit = creditor(groups, kl_GxN)
    advantages = [credit.advantage_GxN[begin : begin + each] for begin in range(0, settings.groups, each)]
    batches = [
        _with_credit(one, found, advantage_GxN, settings)
        for one, found, advantage_GxN in zip(packed, scores, advantages)
    ]
    return credit, batches * settings.inner_epochs


def _with_credit(packed: Packed, scores: dict[str, Any], advantage_GxN: np.ndarray, settings: RLSettings) -> Batch:
    batch = packed.batch
    old = scores.get("logp") if settings.old_logp == "recomputed" else None
    if advantage_GxN.size:
        advantage_BxT = np.asarray(broadcast(advantage_GxN, packed.sample_BxS, batch.segment_ids_BxT), np.float32)
    else:
        advantage_BxT = np.zeros(batch.tokens_BxT.shape, np.float32)
    return batch.replace(advantage_BxT=advantage_BxT, old_logp_BxT=old)
