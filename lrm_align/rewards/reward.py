"""What a sample earns: a number with named parts, made of the scores of its judges, or nothing with a reason."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from lrm_align.errors import UserError


class Scored(Protocol):
    """What rewards read of a judge's score; `lrm_align.scoring.Score` is one."""

    @property
    def value(self) -> float | None:
        """The number; None where unscored."""

    @property
    def parts(self) -> Mapping[str, float]:
        """What the number was made of."""

    @property
    def reason(self) -> str | None:
        """Why there is no number; None where there is one."""


class Reward(NamedTuple):
    """A number, or none with a reason: a judge that cannot decide is neither a reward of 0 nor one of -1.

    Attributes:
      value: the number; None where unscored.
      parts: what it was made of, by name; statistics of single parts (GDPO) read them.
      reason: why there is no number.
    """

    value: float | None
    parts: Mapping[str, float] = MappingProxyType({})
    reason: str | None = None

    @classmethod
    def unscored(cls, reason: str | None) -> "Reward":
        """No number, for this reason."""
        return cls(None, {}, reason or "unscored")


RewardFunction = Callable[[Mapping[str, Scored]], Reward]  # {judge: score} of a sample -> its reward; pure


def weighted_sum(weights: Mapping[str, float]) -> RewardFunction:
    """R = Σ_k w_k · s_k over scores by the name of their judge, or "judge.part" for a named part of one.

    Where one of these scores is unscored or lacks the part, the reward is unscored, with the name and the reason.

    >>> from lrm_align.scoring import Score
    >>> reward = weighted_sum({"guard": -1.0, "format.closed": 0.5})
    >>> reward({"guard": Score(0.25), "format": Score(1.0, {"closed": 1.0})})
    Reward(value=0.25, parts={'guard': 0.25, 'format.closed': 1.0}, reason=None)
    >>> reward({"guard": Score.unscored("no answer"), "format": Score(1.0, {"closed": 1.0})}).reason
    'guard: no answer'

    Raises:
      UserError: no weights, or one that is not finite; in use, a judge that did not score the sample.
    """
    if not weights:
        raise UserError("weighted_sum: there are no scores to sum")
    for name, weight in weights.items():
        if not abs(weight) < float("inf"):
            raise UserError(f"weighted_sum: the weight of {name!r} is {weight}; it must be finite")

    def reward(scores: Mapping[str, Scored]) -> Reward:
        parts = {}
        for name in weights:
            judge, _, part = name.partition(".")
            if judge not in scores:
                raise UserError(
                    f"weighted_sum: no score {judge!r}; the samples are scored by {', '.join(scores) or 'none'}"
                )
            score = scores[judge]
            value = score.parts.get(part) if part else score.value
            if score.value is None or value is None:
                return Reward.unscored(f"{name}: {score.reason or 'no such part'}")
            parts[name] = value
        return Reward(sum(weights[name] * value for name, value in parts.items()), parts)

    return reward
