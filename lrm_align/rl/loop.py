"""An RL run, from top to bottom: take groups, give credit, update, show."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

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
from lrm_align.training.loop import EXIT_TERMINATED, Termination
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
      SystemExit: 143, after SIGTERM: the state was saved, and the same call goes on from there.
    """
    begin, every = learner.step, settings.checkpoint_every
    if begin:
        log(f"resumed after step {begin} of {settings.steps}")
    creditor = Creditor(task, advantage, settings.groups, settings.samples)
    accept = has_spread(task) if settings.dynamic else lambda group: True
    report = Reporter(settings, tickets, chat, workdir, begin, log)
    try:
        with Termination() as termination:
            for step in range(begin, settings.steps):
                clock, window = Clock(), Window()
                try:
                    taken = source.take(step, learner.params(), accept, lambda: termination.asked)
                except StoppedError as stopped:
                    if every and step > begin and step % every:
                        learner.save()  # else it was when the step before ended
                    log(f"SIGTERM: {stopped}" + (f"; step {step} is saved" if every and step else ""))
                    raise SystemExit(EXIT_TERMINATED) from None
                clock.lap("rollout", grading=taken.grading_s)
                credit, batches = prepare(learner, taken.groups, creditor, settings)
                clock.lap("credit")
                for batch in batches:
                    window.add(step, learner.update(batch))
                clock.lap("train")
                report.add(step, taken, credit, window, clock)
                done = step + 1
                if every and (done % every == 0 or done == settings.steps or termination.asked):
                    learner.save()
                if termination.asked:
                    log(f"SIGTERM: stopped after step {done}" + (", which is saved" if every else ""))
                    raise SystemExit(EXIT_TERMINATED)
        source.close()
    finally:
        report.close()
        learner.close()
    return Learned(*learner.trained(), report.rows)


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
    old = {"recomputed": scores.get("logp"), "sampler": batch.sampler_logp_BxT, "none": None}[settings.old_logp]
    if advantage_GxN.size:
        advantage_BxT = np.asarray(broadcast(advantage_GxN, packed.sample_BxS, batch.segment_ids_BxT), np.float32)
    else:
        advantage_BxT = np.zeros(batch.tokens_BxT.shape, np.float32)
    return batch.replace(advantage_BxT=advantage_BxT, old_logp_BxT=old)
