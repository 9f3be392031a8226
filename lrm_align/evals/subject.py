"""What an evaluation is given: a model that answers prompts, and a guard."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from lrm_align.chat import Prompt
from lrm_align.scoring import Guard


class Answer(NamedTuple):
    """One response.

    Attributes:
      text: everything that the assistant said, thinking included, without the end of the turn.
      finished: False where it ran into its limit.
      notes: what else is known of it, such as what it did in a conversation with a tool.
    """

    text: str
    finished: bool
    notes: Mapping[str, Any] = MappingProxyType({})


class Subject(NamedTuple):
    """The model under evaluation.

    Attributes:
      answer: (name of the set, prompts) to one answer each, in order; resumable, and kept on disk by name.
      guard: builds the guard on first use.
      seed: of the run.
      judged: (name of the set, prompts, a word of verdict for each) keeps what an evaluation found, for people to read.
    """

    answer: Callable[[str, Sequence[Prompt]], list[Answer]]
    guard: Callable[[], Guard]
    seed: int
    judged: Callable[[str, Sequence[Prompt], Sequence[str]], None] = lambda name, prompts, verdicts: None
