"""Known answers that responses are compared with; one that no response could equal is refused at once."""

import re
from collections.abc import Mapping, Sequence

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.evals.golds import stated_answer
from lrm_align.scoring.math_answers import Checker
from lrm_align.untrusted import shown


def read_all(prompts: Sequence[Prompt], checker: Checker) -> Mapping[str, str]:
    """{prompt id: answer} of `meta["answer"]`, each of which a response that gives it is called right for.

    Raises:
      UserError: the first that cannot be read, or that not even itself is equal to.
    """
    found = {prompt.id: stated_answer(prompt.meta["answer"], {}, f"prompt {prompt.id!r}") for prompt in prompts}
    golds = list(found.values())
    scores = checker.score(golds, [f"\\boxed{{{gold}}}" for gold in golds])
    for (name, gold), score in zip(found.items(), scores, strict=True):
        if score.value != 1.0:
            raise UserError(
                f"config.prompts: the answer of prompt {name!r} is {shown(gold)}, which no response could give: it is "
                "compared as the evaluator does; mend the row or leave it out"
            )
    return found


def check_pattern(prompts: Sequence[Prompt], pattern: str) -> None:
    """Refuses answers that the group of a pattern cannot catch, so that no response would ever be right.

    Raises:
      UserError: naming the first.
    """
    group = re.compile(first_group(pattern))
    without = [prompt for prompt in prompts if not group.fullmatch(str(prompt.meta["answer"]))]
    if without:
        first = f"{shown(str(without[0].meta['answer']))} of prompt {without[0].id!r}"
        raise UserError(
            f"config.answer.pattern: {len(without)} of {len(prompts)} known answers are nothing that {group.pattern!r} "
            f"could catch, {first} is the first; mend them, "
            "or leave the pattern empty to compare as the evaluator does"
        )


def first_group(pattern: str) -> str:
    r"""The source of the first group that captures.

    >>> first_group(r"^The (?:final )?answer is \((-?\d+)\)\.$"), first_group(r"[(](a(b|c)[)])")
    ('-?\\d+', 'a(b|c)[)]')
    """
    opened: list[int] = []
    first: int | None = None
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif character == "[":
            at = _after_class(pattern, at)
        elif character == "(":
            opened.append(at)
            if first is None and (pattern[at + 1 : at + 2] != "?" or pattern[at + 1 : at + 4] == "?P<"):
                first = at
        elif character == ")" and opened.pop() == first and first is not None:
            return re.sub(r"^\?P<\w+>", "", pattern[first + 1 : at])
        at += 1
    raise UserError(f"the answer's pattern {pattern!r} has no group; put parentheses around the answer")


def _after_class(pattern: str, at: int) -> int:
    """The place of the bracket that closes a class of characters."""
    at += 2 if pattern[at + 1] == "^" else 1
    at += pattern[at] == "]"  # the first is a character of the class
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at
