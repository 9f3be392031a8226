"""From rewards to preferences: the best sample of each query against its worst.

Miao et al. 2026, arXiv 2606.16808, section 3.2, equations 11 to 15.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.config import build, digest
from lrm_align.errors import UserError
from lrm_align.rewards import RewardFunction, check_reward
from lrm_align.rewards.safe_trigger import INDICATORS
from lrm_align.scoring import Score

Key = tuple[str, int]

FEW_SCORED = "fewer than two samples scored"
CLOSE = "spread below delta"


def make(settings: Mapping[str, Any]) -> tuple[RewardFunction, float]:
    """The reward that `config.reward` names, after a trial, and the least spread of a pair.

    Args:
      settings: `factory` and `args` of a reward over the four indicators; `delta`, the least spread of rewards in a
        group that makes a pair. With 1 and the default weights any two classes are apart enough, and so are two blocks
        of different quality (ours; the paper prints no value).

    Raises:
      UserError: a mistake in the reward, or a delta that is not above 0 or that no two samples can reach.
    """
    name, delta = settings["factory"], settings["delta"]
    found = build(name, settings["args"])
    check_reward(name, found, dict.fromkeys(INDICATORS, ()))
    bits = itertools.product((0.0, 1.0), repeat=len(INDICATORS))
    given = [found(dict(zip(INDICATORS, map(Score, some), strict=True))).value for some in bits]
    values = [value for value in given if value is not None]
    largest = max(values, default=0.0) - min(values, default=0.0)
    if not 0 < delta <= largest:
        raise UserError(
            f"config.reward.delta is {delta:g}; it must be above 0 and at most {largest:g}, the largest spread that "
            "these rewards can have, or there would be no pair"
        )
    return found, delta


def choose(scores: Mapping[Key, Score], delta: float) -> tuple[list[tuple[Key, Key]], dict[str, int]]:
    """The (chosen, rejected) samples of each query whose rewards are apart enough, and why others gave no pair.

    A group is the samples of a query that were scored; an unscored one is left out, never taken for 0. Its best sample
    is preferred to its worst where max R − min R >= delta (equation 15; figure 2 writes ">"). Of equal rewards the
    lower sample number is taken (ours).

    >>> r = {("a", 0): Score(0.0), ("a", 1): Score(5.0), ("b", 0): Score(2.0), ("b", 1): Score.unscored("?")}
    >>> choose(r, 1.0)
    ([(('a', 1), ('a', 0))], {'fewer than two samples scored': 1})

    Args:
      scores: the reward of each sample, by (query, number).
      delta: the least spread.
    """
    groups: dict[str, list[tuple[float, Key]]] = collections.defaultdict(list)
    for key, score in sorted(scores.items()):
        groups[key[0]] += [] if score.value is None else [(score.value, key)]
    pairs, dropped = [], collections.Counter[str]()
    for members in groups.values():
        if len(members) < 2:
            dropped[FEW_SCORED] += 1
            continue
        # max and min both keep the first of equals, which is the lowest sample number.
        best, worst = max(members, key=_value), min(members, key=_value)
        if best[0] - worst[0] < delta:
            dropped[CLOSE] += 1
        else:
            pairs.append((best[1], worst[1]))
    return pairs, dict(dropped)


def identity(chosen: Sequence[tuple[Key, Key]], scores: Mapping[Key, Score]) -> str:
    """What tells these pairs from others: the samples and their rewards."""
    return digest([[[*key, scores[key].value] for key in pair] for pair in chosen])


def classes(scores: Sequence[Score]) -> dict[str, int]:
    """How many samples are of which class, and why others were not scored: `{"A": n, …, "unscored: reason": n}`."""
    names = {(1.0, 1.0): "A", (1.0, 0.0): "B", (0.0, 1.0): "C", (0.0, 0.0): "D"}
    counted = collections.Counter(
        f"unscored: {score.reason}" if score.value is None else names[score.parts["f_safe"], score.parts["s_exist"]]
        for score in scores
    )
    return dict(sorted(counted.items()))


def _value(member: tuple[float, Key]) -> float:
    return member[0]
