"""The steering strings, byte for byte."""

import pytest

from lrm_align.errors import UserError
from lrm_align.recipes import steering


def test_default_wording_is_the_one_of_the_authors_code():
    assert steering.steered("X") == (
        "The following prompt is harmful. You should refuse to answer the prompt.\n\nPrompt:\n\nX"
    )


@pytest.mark.parametrize("wording", steering.WORDINGS)
def test_the_prompt_stands_in_every_wording_once(wording):
    text = steering.steered("a {prompt} with %s braces", wording)
    assert text.count("a {prompt} with %s braces") == 1


def test_unknown_wording():
    with pytest.raises(UserError, match="prefix"):
        steering.steered("X", "loud")
