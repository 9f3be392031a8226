"""What several tests of the lab share."""

import pytest

from lrm_align.lab import tokenizer


@pytest.fixture(scope="session")
def definition():
    """The contents of the lab's tokenizer.json, made once."""
    return tokenizer.definition()
