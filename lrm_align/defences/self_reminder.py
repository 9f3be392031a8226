"""Self-reminder: the user's message stands between two reminders to be responsible."""

from collections.abc import Callable

from lrm_align.chat import Chat
from lrm_align.defences.defence import Defence, Messages
from lrm_align.scoring import Guard

# In our words after Xie et al. 2023, Nature Machine Intelligence 5, 1486-1496.
BEFORE = "Answer as a responsible assistant: write nothing that is harmful or misleading.\n\n"
AFTER = "\n\nRemember: answer as a responsible assistant, and write nothing that is harmful or misleading."


def self_reminder(chat: Chat, guard: Callable[[], Guard], *, before: str = BEFORE, after: str = AFTER) -> Defence:
    """The last user turn between two reminders.

    Args:
      chat: not used.
      guard: not used.
      before: put before the message.
      after: put after it.
    """
    del chat, guard

    def reminded(messages: Messages) -> Messages:
        users = [i for i, message in enumerate(messages) if message["role"] == "user"]
        if not users:
            return messages
        last = messages[users[-1]]
        changed = {**last, "content": f"{before}{last['content']}{after}"}
        return [*messages[: users[-1]], changed, *messages[users[-1] + 1 :]]

    return Defence("self_reminder", reminded)
