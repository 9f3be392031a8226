"""Where a thought begins, and text that is put there."""

from lrm_align.chat import Chat
from lrm_align.chat.thinking import THINK_CLOSE, THINK_OPEN
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import ForcedPrefix


def opened_with(chat: Chat, text: str, closed: bool = False) -> ForcedPrefix:
    """Every thought begins with a text; `closed`: and ends with it, so that the answer follows at once.

    The mark of the thought's beginning is put in where the prompt does not hold it.

    Raises:
      UserError: no text for a thought that stays open.
    """
    if not closed and not text.strip():
        raise UserError(f"config.defence.args.text is {text!r}; it must be the words that a thought begins with")
    mark = [] if chat.think_open_in_prompt else chat.encode_trusted(f"{THINK_OPEN}\n")
    end = chat.encode_trusted(f"\n{THINK_CLOSE}\n\n") if closed else []
    return ForcedPrefix(tuple(mark + chat.encode_plain(text) + end))
