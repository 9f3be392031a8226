"""Trying a reward that a config names, before anything slow: a mistake in it ends in one line."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lrm_align.errors import UserError, attributed
from lrm_align.rewards.reward import Reward, RewardFunction, Scored


class _Example(NamedTuple):
    """A score that every reward must be able to read."""

    value: float | None
    parts: Mapping[str, float]
    reason: str | None


class _Scores(dict[str, Scored]):
    """Scores that say what there is when a reward asks for another one."""

    def __init__(self, name: str, scores: Mapping[str, Scored]):
        super().__init__(scores)
        self._name = name

    def __missing__(self, key: str) -> Scored:
        there = ", ".join(self) or "none"
        raise UserError(f"{self._name} reads the score {key!r}, which nobody gives; the samples have {there}")


def check_reward(
    name: str, reward: RewardFunction, judges: Mapping[str, tuple[str, ...]], parts: Sequence[str] = ()
) -> None:
    """Calls a reward on a scored and on an unscored sample.

    Args:
      name: the import path of the factory that made it.
      reward: what the factory returned.
      judges: {judge: names of its score's parts} of the run.
      parts: of the reward, that the run reads.

    >>> check_reward("mine:reward", lambda scores: scores["gaurd"].value, {"guard": ("p_safe",)})
    Traceback (most recent call last):
        ...
    lrm_align.errors.UserError: mine:reward reads the score 'gaurd', which nobody gives; the samples have guard

    Raises:
      UserError: it names the factory, what was found and what is wanted.
    """
    if not callable(reward):
        raise UserError(f"{name} returned a {type(reward).__name__}; wanted a function {{judge: score}} -> Reward")
    scored = {judge: _Example(0.5, dict.fromkeys(parts, 0.5), None) for judge, parts in judges.items()}
    unscored = {judge: _Example(None, {}, "an example") for judge in judges}
    for scores in (scored, unscored):
        with attributed(name, "a pure function {judge: score} -> Reward that takes unscored samples, too"):
            given = reward(_Scores(name, scores))
        if not isinstance(given, Reward):
            raise UserError(f"{name}: its reward is a {type(given).__name__}; wanted a Reward(value, parts)")
        if given.value is not None and not isinstance(given.value, int | float):
            raise UserError(f"{name}: its reward's value is a {type(given.value).__name__}; wanted a number or None")
        unknown = [part for part in parts if given.value is not None and part not in given.parts]
        if unknown:
            there = ", ".join(given.parts) or "none"
            raise UserError(f"config.reward.parts names {unknown[0]!r}, which {name} does not give; its parts: {there}")
