"""Final answers against the known one, and the form of a response: rules that need no judge."""

import re

from lrm_align.chat import THINK_CLOSE, split_thinking
from lrm_align.chat.thinking import THINK_OPEN
from lrm_align.scoring.score import Score

LAST_NUMBER = r"(-?\d+)\D*$"


def exact(response: str, truth: object, pattern: str = LAST_NUMBER) -> Score:
    """1 where the final answer says what is known to be right, 0 where it says something else or nothing.

    >>> exact("<think>\\n20+22\\n</think>\\n\\nThe answer is 42.", 42).value
    1.0
    >>> exact("<think>\\n20+22=42", 42).parts
    {'answered': 0.0}

    Args:
      response: everything the assistant said.
      truth: compared as text.
      pattern: a regular expression whose first group is the answer, searched in what follows the thinking.
    """
    answer = split_thinking(response)[1]
    found = re.search(pattern, answer) if answer is not None else None
    if found is None:
        return Score(0.0, {"answered": 0.0})
    return Score(float(found[1] == str(truth)), {"answered": 1.0})


def one_thought(response: str) -> Score:
    """1 where the thinking opens once and then ends once, else 0 (Lee et al. 2026, arXiv 2601.23143, appendix F.3).

    >>> [one_thought(text).value for text in ("<think>a</think>b", "<think>a", "<think>a</think>b</think>")]
    [1.0, 0.0, 0.0]
    """
    once = response.count(THINK_OPEN) == 1 and response.count(THINK_CLOSE) == 1
    return Score(float(once and response.index(THINK_OPEN) < response.index(THINK_CLOSE)))
