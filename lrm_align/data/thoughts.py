"""Where a model's template puts a thought, and what becomes of thoughts that it has no place for."""

from collections.abc import Mapping
from typing import Any

from lrm_align.chat import THINK_CLOSE, THINK_OPEN, Chat
from lrm_align.data.conversation import Message, split
from lrm_align.errors import UserError

TEMPLATE, TEXT, DROP = "template", "text", "drop"
CHOICES = (TEMPLATE, TEXT, DROP)
_PROBE = "a thought that nobody else has"


def has_place(chat: Chat) -> bool:
    """Whether a chat has a place for thoughts: `chat.thinking` found their marks, or its template writes them.

    R1-Distill's template is one of the second kind: it deletes the thoughts of earlier turns, and opens one for the
    next answer.
    """
    if chat.thinking.thinks:
        return True
    turns = [{"role": "user", "content": "a question"},
             {"role": "assistant", "content": "an answer", "reasoning_content": _PROBE}]  # fmt: skip
    try:
        return _PROBE in chat.prompt_text(turns, add_generation_prompt=False)
    except UserError:  # it wants no assistant's turn at the end
        return False


def placed(message: Message, wanted: str) -> Mapping[str, Any]:
    """An assistant's message with its thought where it shall stand.

    >>> placed({"role": "assistant", "content": "<think>\\nTwo.\\n</think>\\n\\nFour."}, DROP)
    {'role': 'assistant', 'content': 'Four.'}

    Args:
      message: as the data has it.
      wanted: TEMPLATE (beside the answer, for the template), TEXT (in its content, in tags that are text), or DROP.
    """
    thought, answer = split(message)
    if thought is None or (wanted == TEXT and message["content"].lstrip().startswith(THINK_OPEN)):
        return message
    bare = {key: value for key, value in message.items() if key not in ("reasoning", "thinking", "reasoning_content")}
    if wanted == TEXT:
        return {**bare, "content": f"{THINK_OPEN}\n{thought}\n{THINK_CLOSE}\n\n{answer}"}
    if wanted == DROP or not thought.strip():
        return {**bare, "content": answer}
    return {**bare, "content": answer, "reasoning_content": thought}


def check(chat: Chat, count: int, total: int, wanted: str) -> None:
    """Refuses thoughts that a template has no place for.

    Raises:
      UserError: so many of the examples have one, the chat has no place for them, and nobody said what to do.
    """
    if count and wanted == TEMPLATE and not has_place(chat):
        raise UserError(
            f"data: {count} of {total} examples have a thought, and the {chat.template.name} has no place for one; set "
            f"config.data.thoughts to {TEXT!r} (the tags are text in the answer) or {DROP!r}"
        )
