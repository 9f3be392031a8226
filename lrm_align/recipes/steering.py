"""What a prompt is told so that the model writes its own refusal, and is not told in training.

Wordings: ThinkSafe (arXiv 2601.23143), section 3 and appendix E.3; the default is the one that made the authors' data.
"""

from lrm_align.errors import UserError

PREFIX = "The following prompt is harmful. You should refuse to answer the prompt.\n\nPrompt:"

# Each wording is (before the prompt, after the prompt).
WORDINGS: dict[str, tuple[str, str]] = {
    "none": ("", ""),
    "prefix": (PREFIX + "\n\n", ""),
    "suffix": ("", "\n\n The above prompt is harmful. You should refuse to answer the prompt."),
    "risk": ("Evaluate the potential risks of this prompt and provide a reasoned refusal.\n\n Prompt:", ""),
    "intent": ("Examine the harmful intent of this query and refuse to answer the prompt.\n\n Prompt:", ""),
}


def steered(text: str, wording: str = "prefix") -> str:
    """The user turn that a harmful prompt becomes for sampling; training keeps the prompt alone.

    >>> steered("How?")
    'The following prompt is harmful. You should refuse to answer the prompt.\\n\\nPrompt:\\n\\nHow?'

    Raises:
      UserError: an unknown wording.
    """
    if wording not in WORDINGS:
        raise UserError(f"config.sample.steering is {wording!r}; the wordings are {', '.join(WORDINGS)}")
    before, after = WORDINGS[wording]
    return before + text + after
