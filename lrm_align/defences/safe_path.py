"""ZS-SafePath: every thought begins with a primer."""

from collections.abc import Callable

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.thought import opened_with
from lrm_align.scoring import Guard

PRIMER = "Let's think about safety first"  # Jeung et al. 2025, arXiv 2505.14667


def safe_path(chat: Chat, guard: Callable[[], Guard], *, text: str = PRIMER) -> Defence:
    """A primer at the head of the thought, which stays open: SafePath without its training (arXiv 2505.14667).

    Args:
      chat: of the model.
      guard: not used.
      text: the primer.
    """
    del guard
    return Defence("safe_path", intervention=opened_with(chat, text))
