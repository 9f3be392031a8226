"""Thoughts and answers inside a completion's text."""

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"


def is_closed(text: str) -> bool:
    """Whether the thinking ended: ThinkSafe keeps no response without `</think>`.

    >>> is_closed("<think>2 + 2 is 4</think>4"), is_closed("<think>2 + 2 is")
    (True, False)
    """
    return THINK_CLOSE in text


def split_thinking(text: str, opened: bool = False) -> tuple[str | None, str | None]:
    """(thought, answer), each stripped; None for the part that is not there.

    The answer is what follows the *last* `</think>`; a thought that never ends has no answer, which is not the same as
    an empty one.

    >>> split_thinking("<think>\\n2 + 2 is 4\\n</think>\\n\\n4")
    ('2 + 2 is 4', '4')
    >>> split_thinking("<think>2 + 2 is"), split_thinking("4"), split_thinking("2 + 2 is", opened=True)
    (('2 + 2 is', None), (None, '4'), ('2 + 2 is', None))

    Args:
      text: a completion.
      opened: the prompt ends inside the thought, so the text starts there without its own `<think>`.
    """
    if THINK_CLOSE in text:
        thought, answer = text.rsplit(THINK_CLOSE, 1)
        return thought.strip().removeprefix(THINK_OPEN).strip(), answer.strip()
    start = text.lstrip()
    if opened or start.startswith(THINK_OPEN):
        return start.removeprefix(THINK_OPEN).strip(), None
    return None, text.strip()


def with_opening(text: str) -> str:
    """The response as one text, `<think>` in front where only the prompt had it.

    >>> with_opening("a</think>b"), with_opening("<think>a</think>b")
    ('<think>\\na</think>b', '<think>a</think>b')
    """
    return text if text.startswith(THINK_OPEN) else f"{THINK_OPEN}\n{text}"
