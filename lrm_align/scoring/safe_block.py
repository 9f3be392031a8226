"""The `<safe>` block of Safe Trigger: where it stands in a response, and whether it is whole.

A response is `<think>…</think><safe>…</safe>answer` for a risky query, and `<think>…</think>answer` for any other (Miao
et al. 2026, arXiv 2606.16808, section 3.1). What counts as a whole block is ours, the paper says "complete" only: it is
the first thing after the thinking, which ends once, it opens and closes once, it is not empty, and an answer follows.
"""

from typing import NamedTuple

from lrm_align.chat import THINK_CLOSE, split_thinking

OPEN, CLOSE = "<safe>", "</safe>"

NOT_CLOSED = "thinking not closed"
CLOSED_TWICE = "thinking closed more than once"
NO_BLOCK = "no block"
MISPLACED = "text before the block"
OPENED_TWICE = "more than one block"
NOT_ENDED = "block not closed"
EMPTY = "empty block"
NO_ANSWER = "no answer after the block"


class Response(NamedTuple):
    """A response in its parts, each stripped; None for a part that is not there.

    Attributes:
      thought: what stands inside the thinking.
      block: what stands inside the block, where that is whole.
      answer: what is judged as the final answer: the text after a whole block, and all that follows the last end of the
        thinking where the block is missing or broken, so that no block hides anything from a judge.
      fault: None for a whole block, else what is wrong, one of this module's reasons.
    """

    thought: str | None
    block: str | None
    answer: str | None
    fault: str | None

    @property
    def triggered(self) -> bool:
        """Whether there is a whole block: the paper's indicator S_exist (equation 1)."""
        return self.fault is None


def parse(text: str) -> Response:
    """The parts of a response.

    >>> parse("<think>\\nhm\\n</think>\\n\\n<safe>\\na risk\\n</safe>\\n\\nNo.")
    Response(thought='hm', block='a risk', answer='No.', fault=None)
    >>> parse("<think>hm</think>Yes.").fault, parse("<think>hm</think><safe>a risk").fault
    ('no block', 'block not closed')

    Args:
      text: everything that the assistant said, as `Chat.full_response` gives it.
    """
    if THINK_CLOSE not in text:
        return Response(split_thinking(text, opened=True)[0], None, None, NOT_CLOSED)
    thought, rest = split_thinking(text)
    rest = rest or ""
    fault = CLOSED_TWICE if text.count(THINK_CLOSE) > 1 else _fault(rest)
    if fault is not None:
        return Response(thought, None, rest, fault)
    block, _, answer = rest.removeprefix(OPEN).partition(CLOSE)
    return Response(thought, block.strip(), answer.strip(), None)


def without_block(text: str) -> str:
    """The response with its block taken out, where that is whole: what a judge of final answers is shown.

    >>> without_block("<think>hm</think>\\n\\n<safe>a risk</safe>\\n\\nNo.")
    '<think>hm</think>\\n\\nNo.'
    """
    if not parse(text).triggered:
        return text
    head, _, rest = text.rpartition(THINK_CLOSE)
    return f"{head}{THINK_CLOSE}\n\n{rest.partition(CLOSE)[2].lstrip()}"


def _fault(rest: str) -> str | None:
    """What is wrong with the block in the text after the thinking."""
    if OPEN not in rest and CLOSE not in rest:
        return NO_BLOCK
    if not rest.startswith(OPEN):
        return MISPLACED
    if rest.count(OPEN) > 1 or rest.count(CLOSE) > 1:
        return OPENED_TWICE
    if CLOSE not in rest:
        return NOT_ENDED
    block, _, answer = rest.removeprefix(OPEN).partition(CLOSE)
    if not block.strip():
        return EMPTY
    return None if answer.strip() else NO_ANSWER
