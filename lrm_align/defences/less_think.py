"""LessThink: the thought is one sentence that says no thought is needed."""

from collections.abc import Callable

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.thought import opened_with
from lrm_align.scoring import Guard

# Jiang et al. 2025, arXiv 2502.12025, as their code has it.
SENTENCE = "Okay, the user ask for this, I can answer it without thinking much. "


def less_think(chat: Chat, guard: Callable[[], Guard], *, text: str = SENTENCE) -> Defence:
    """A short fixed thought, already closed, before the answer (arXiv 2502.12025).

    Args:
      chat: of the model.
      guard: not used.
      text: the thought.
    """
    del guard
    return Defence("less_think", intervention=opened_with(chat, text, closed=True))
