"""Thinking Intervention: every thought begins with a sentence about who thinks it."""

from collections.abc import Callable

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.thought import opened_with
from lrm_align.scoring import Guard

SENTENCE = "I am a helpful, respectful, and honest assistant."  # Wu et al. 2025, arXiv 2503.24370


def thinking_intervention(chat: Chat, guard: Callable[[], Guard], *, text: str = SENTENCE) -> Defence:
    """A sentence put at the start of the thought, which goes on from it (arXiv 2503.24370, its safety setting).

    Args:
      chat: of the model.
      guard: not used.
      text: the sentence.
    """
    del guard
    return Defence("thinking_intervention", intervention=opened_with(chat, f"{text} "))
