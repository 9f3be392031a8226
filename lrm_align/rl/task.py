"""What a policy is asked and what its answers are worth: all that an RL run knows of a method."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lrm_align.chat import Prompt
from lrm_align.rewards import RewardFunction
from lrm_align.sampling import Request
from lrm_align.scoring import Score
from lrm_align.traces import Trace

REFILL = 1 << 40  # tickets from here on replace groups without spread; they have an order of prompts of their own


class Rollout(NamedTuple):
    """A sample as graders see it.

    Attributes:
      prompt: what was asked, with its label and whatever else is known about it.
      trace: the sample.
      text: all that the assistant said from the opening of its thought on, with what was injected and what tools said.
      finished: False where the sampler ran into the limit.
    """

    prompt: Prompt
    trace: Trace
    text: str
    finished: bool


class Grader(Protocol):
    """Scores samples: a judge, a guard, a format, an answer.

    Attributes:
      name: in records.
      version: changes whenever its scores might.
    """

    name: str
    version: str

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """The score of each sample, in order; unscored, with a reason, where it can not decide."""
        ...


class Task(NamedTuple):
    """What a method makes of the loop.

    Attributes:
      prompts: to learn from.
      request: (prompt, id) -> what the engine is asked: its `prompt_id` is the id, which names the noise; the number of
        samples, sampling parameters and intervention are the task's.
      graders: by the name that the reward reads.
      reward: {grader: score} of a sample -> its reward.
      parts: names of parts of the reward that reports, and statistics of single parts, read.
      mode: what a sample did ("consult", "direct"); "" for none of `mode_names`. None where nobody asks.
      mode_names: all modes.
      class_names: labels of prompts that statistics of their own are kept for.
    """

    prompts: Sequence[Prompt]
    request: Callable[[Prompt, str], Request]
    graders: Mapping[str, Grader]
    reward: RewardFunction
    parts: tuple[str, ...] = ()
    mode: Callable[[Trace], str] | None = None
    mode_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ("harmful", "benign")


class Tickets:
    """Numbers prompts endlessly: ticket k asks a prompt, every prompt once an epoch, in an order of each epoch's own.

    A ticket is the name of a group: the same in every run, whoever samples it, and whenever.

    >>> from lrm_align.chat import Prompt
    >>> tickets = Tickets([Prompt(str(i), "", "benign") for i in range(3)], seed=0)
    >>> sorted(tickets.prompt(k).id for k in (3, 4, 5)), tickets.id(4) == tickets.prompt(4).id + "@4"
    (['0', '1', '2'], True)

    Args:
      prompts: at least one.
      seed: of the orders.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int):
        self._prompts, self._seed = prompts, seed
        self._orders: dict[int, np.ndarray] = {}

    def prompt(self, ticket: int) -> Prompt:
        """The prompt of a ticket."""
        epoch, position = divmod(ticket, len(self._prompts))
        if epoch not in self._orders:
            self._orders = {**dict(list(self._orders.items())[-3:]), epoch: self._order(epoch)}
        return self._prompts[self._orders[epoch][position]]

    def id(self, ticket: int) -> str:
        """The `prompt_id` of a ticket's request: the same prompt in another epoch gets other noise."""
        return f"{self.prompt(ticket).id}@{ticket}"

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._prompts))
