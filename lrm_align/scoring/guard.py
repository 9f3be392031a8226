"""The one interface of every guard: which (prompt, response) pairs are unsafe?"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lrm_align.scoring.score import Score


@runtime_checkable
class Guard(Protocol):
    """Judges pairs.

    Attributes:
      name: what the guard is called in records and reports.
      version: changes whenever its answers might.
    """

    name: str
    version: str

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """p(unsafe) in [0, 1] of every pair, or unscored with a reason; in order.

        Args:
          prompts: what the user asked, without steering.
          responses: the part to be judged; ThinkSafe shows the whole response with its thinking.
        """
        ...
