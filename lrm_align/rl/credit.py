"""Groups with scores to rewards, and rewards to advantages: on the host, of a few hundred numbers a step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lrm_align import advantages
from lrm_align.advantages import Group, Transform
from lrm_align.provenance import Source
from lrm_align.rewards import Reward, arrays
from lrm_align.rl.group import TraceGroup
from lrm_align.rl.task import Task
from lrm_align.scoring import Score
from lrm_align.traces import Trace


class Credit(NamedTuple):
    """What the samples of a step earn.

    Attributes:
      rewards: of each sample of each group.
      group: the same as arrays, with what the advantages read beside them.
      advantage_GxN: credit.
    """

    rewards: list[list[Reward]]
    group: Group
    advantage_GxN: np.ndarray


def reward_of(task: Task, trace: Trace) -> Reward:
    """The reward of a sample, of the scores that its trace carries."""
    return task.reward({name: Score.from_dict(trace.scores[name]) for name in task.graders})


def has_spread(task: Task, above: float = 0.0) -> Callable[[TraceGroup], bool]:
    """Whether a group carries credit: DAPO's dynamic sampling by `advantages.keep`."""

    def accept(group: TraceGroup) -> bool:
        values = [reward.value for reward in (reward_of(task, trace) for trace in group.traces)]
        scored = [value for value in values if value is not None]
        return len(scored) > 1 and max(scored) - min(scored) > above

    return accept


class Creditor:
    """Computes credit with one compiled chain of transforms.

    Args:
      task: whose rewards, modes and classes count.
      transform: rewards to advantages.
      groups, samples: G and N; a step with fewer groups is filled up with unscored ones.
    """

    def __init__(self, task: Task, transform: Transform, groups: int, samples: int):
        self._task, self._groups, self._samples = task, groups, samples
        self._transform = jax.jit(lambda group: transform(group.reward_GxN, group))

    def __call__(self, groups: Sequence[TraceGroup], kl_GxN: np.ndarray | None = None) -> Credit:
        """The credit of up to G groups.

        Args:
          groups: with scores.
          kl_GxN: log π - log π_ref summed over each sample, where the transform reads it.

        Raises:
          UserError: a reward that is not a finite number, or columns that the transform lacks.
        """
        rewards = [[reward_of(self._task, trace) for trace in group.traces] for group in groups]
        group = self._group(groups, rewards, kl_GxN)
        advantages.check(group)
        advantage_GxN = np.asarray(self._transform(group))[: len(groups)]
        return Credit(rewards, _first(group, len(groups)), advantage_GxN)

    def _group(self, groups: Sequence[TraceGroup], rewards: list[list[Reward]], kl_GxN: Any) -> Group:
        task, absent = self._task, self._groups - len(groups)
        nothing = [[Reward.unscored("no group")] * self._samples] * absent
        columns = arrays(rewards + nothing, task.parts)
        modes = {name: index for index, name in enumerate(task.mode_names)}

        def mode(trace: Trace) -> int:
            return -1 if task.mode is None else modes.get(task.mode(trace), -1)

        def column(value: Callable[[Trace], Any], fill: Any, dtype: type) -> np.ndarray:
            rows = [[value(trace) for trace in group.traces] for group in groups]
            return np.array(rows + [[fill] * self._samples] * absent, dtype)

        names = task.class_names
        classes = [next((i for i, name in enumerate(names) if name in group.traces[0].tags), -1) for group in groups]
        return Group(
            columns.reward_GxN,
            columns.valid_GxN,
            columns.parts_GxNxK,
            mode_GxN=column(mode, -1, np.int32) if task.mode is not None else None,
            length_GxN=column(lambda trace: int(np.sum(trace.source == Source.SAMPLED)), 0, np.int32),
            kl_GxN=None if kl_GxN is None else np.pad(kl_GxN, ((0, absent), (0, 0))).astype(np.float32),
            class_G=np.array(classes + [-1] * absent, np.int32),
            mode_names=task.mode_names,
            class_names=names,
        )


def _first(group: Group, count: int) -> Group:
    """Without the groups that filled up."""
    return jax.tree.map(lambda a: a[:count], group)
