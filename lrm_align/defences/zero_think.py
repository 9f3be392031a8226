"""ZeroThink: the thought is empty."""

from collections.abc import Callable

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence
from lrm_align.defences.thought import opened_with
from lrm_align.scoring import Guard


def zero_think(chat: Chat, guard: Callable[[], Guard]) -> Defence:
    """An empty thought, already closed, before the answer (Jiang et al. 2025, arXiv 2502.12025)."""
    del guard
    return Defence("zero_think", intervention=opened_with(chat, "", closed=True))
