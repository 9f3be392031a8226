"""Where a thought begins, and text that is put there."""

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import ForcedPrefix


def opened_with(chat: Chat, text: str, closed: bool = False) -> ForcedPrefix:
    """Every thought begins with a text; `closed`: and ends with it, so that the answer follows at once.

    The mark of the thought's beginning is put in where the prompt does not hold it.

    Raises:
      UserError: no text for a thought that stays open, or a model that would not end it.
    """
    if not closed and not text.strip():
        raise UserError(f"config.defence.args.text is {text!r}; it must be the words that a thought begins with")
    needs_thoughts(chat)
    end = chat.encode_trusted(f"\n{chat.thinking.close}\n\n") if closed else []
    return ForcedPrefix(tuple(chat.encode_trusted(chat.opening) + chat.encode_plain(text) + end))


def needs_thoughts(chat: Chat) -> None:
    """Refuses a model without thoughts: it would not end what is opened for it, and never come to an answer.

    Raises:
      UserError: it has none.
    """
    if not chat.thinking.thinks:
        raise UserError(
            f"config.defence acts on the thoughts of a model, and this one has none (as seen in "
            f"{chat.thinking.seen_in}); take lrm_align.defences:safe_think or :self_reminder, which need none, or name "
            "its marks in config.model.thinking"
        )
