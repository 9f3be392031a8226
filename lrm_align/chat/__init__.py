"""Messages to ids and back, prompts from files, and the removal of prompts that an evaluation will ask."""

import os

# transformers advises, when it is imported, to install PyTorch: nothing here uses it.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from lrm_align.chat.chat import ROLES, Chat, check_length
from lrm_align.chat.decontaminate import decontaminate, normalise
from lrm_align.chat.prompts import Prompt, load, load_all, load_sources
from lrm_align.chat.thinking import THINK_CLOSE, THINK_OPEN, is_closed, split_thinking, with_opening
from lrm_align.chat.tokenizer import check_vocabulary, load_tokenizer

__all__ = [
    "ROLES", "THINK_CLOSE", "THINK_OPEN", "Chat", "Prompt", "check_length", "check_vocabulary", "decontaminate",
    "is_closed", "load", "load_all", "load_sources", "load_tokenizer", "normalise", "split_thinking", "with_opening",
]  # fmt: skip
