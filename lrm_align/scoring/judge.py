"""A judge that answers in words: how it is asked, and how texts of strangers stand in a question.

What a judge is shown was written by users and by the model under judgment. It is quoted behind a fence that it cannot
close, and only the judge's own reply is ever read for a verdict.
"""

import re
from collections.abc import Callable, Sequence

from lrm_align.chat.chat import Messages

# Conversations to replies, in order; None where the judge did not finish. It may raise: that is a fault, no verdict.
Ask = Callable[[Sequence[Messages]], list[str | None]]

_FENCE = "~"
_QUOTE = re.compile(rf"^({_FENCE}{{3,}})\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)


def same(ask: Ask) -> Ask:
    """The judge that is given: the frozen model itself. The default of a config that names what stands before it."""
    return ask


def quoted(text: str) -> str:
    """A text between two lines of tildes, more of them than stand together anywhere in the text.

    >>> print(quoted("How?"))
    ~~~
    How?
    ~~~
    >>> quoted("~~~").splitlines()[0]
    '~~~~'
    """
    longest = max((len(run) for run in re.findall(f"{_FENCE}+", text)), default=0)
    fence = _FENCE * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def quotes(question: str) -> list[str]:
    """The texts that `quoted` put into a question, in order: for judges that are rules.

    >>> quotes(f"Prompt:\\n{quoted('How?')}\\nAnswer:\\n{quoted('No. ~~~ No.')}")
    ['How?', 'No. ~~~ No.']
    """
    return [text for _, text in _QUOTE.findall(question)]
