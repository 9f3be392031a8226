"""What a defence is: a change of the messages, an intervention, or both."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat import Chat
from lrm_align.sampling.interventions import Intervention
from lrm_align.scoring import Guard

Messages = Sequence[Mapping[str, Any]]


def unchanged(messages: Messages) -> Messages:
    """The messages as they are."""
    return messages


class Defence(NamedTuple):
    """A defence that needs no training.

    Attributes:
      name: what reports call it.
      messages: the conversation to what the model is shown; the guard sees the original.
      intervention: what acts on the decoding, or None; one for all requests.
    """

    name: str
    messages: Callable[[Messages], Messages] = unchanged
    intervention: Intervention | None = None


def none(chat: Chat, guard: Callable[[], Guard]) -> Defence:
    """No defence: the model as it is."""
    del chat, guard
    return Defence("none")
