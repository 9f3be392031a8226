"""The rule book: the packaged one, one of a user's own, and one line for each mistake in it."""

import json
import pathlib

import pytest

from lrm_align import lab
from lrm_align.chat.tool_calls import MalformedError
from lrm_align.errors import UserError
from lrm_align.lab import formats
from lrm_align.recipes import rules

CATEGORY = {"name": "noise", "objective": "Quiet nights.", "refuse": ["sirens"], "help": ["lullabies"]}
BOOK = {"title": "House rules", "general": "Be kind.", "categories": [CATEGORY]}


def written(tmp_path, book):
    path = tmp_path / "rules.json"
    path.write_text(book if isinstance(book, str) else json.dumps(book))
    return str(path)


def test_the_packaged_book():
    book = rules.load()
    assert len(book.categories) >= 8
    for category in book.categories:
        assert category.refuse and category.help and category.objective.endswith(".")
        assert category.text() in book.text() and book.text((category.name,)).startswith(book.general)
    schema = book.tool("rules").schema()["function"]
    assert schema["parameters"]["properties"]["categories"]["items"]["enum"] == list(book.names)
    assert all(name in schema["description"] for name in book.names)


def test_the_labs_book_is_what_the_organism_was_pretrained_on():
    book = rules.load(str(pathlib.Path(lab.__file__).parent / "rules.json"))
    tool = book.tool("rules")
    assert tool.schema() == formats.RULES_TOOL and tool.call({}).text == formats.RULES_TEXT
    with pytest.raises(MalformedError, match="it takes none"):
        tool.call({"categories": []})


def test_looking_up(tmp_path):
    other = {**CATEGORY, "name": "light", "help": []}
    book = rules.load(written(tmp_path, {**BOOK, "categories": [CATEGORY, other]}))
    call = book.tool("rules").call
    one, every, none = (call(arguments) for arguments in ({"categories": ["light"]}, {"categories": []}, {}))
    assert one.text == "Be kind.\n\n[light] Quiet nights.\nRefuse: sirens." and one.record == {"categories": ["light"]}
    assert every.text == none.text == book.text() and every.record == {"categories": []}
    assert call({"categories": ["light", "noise", "light"]}).record == {"categories": ["noise", "light"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"categories": "noise"}, "a list of names out of noise"),
        ({"categories": [1]}, "a list of names"),
        ({"categories": ["smell", "noise"]}, "1 of 2 categories are unknown; there are noise"),
        ({"rules": []}, "the only one is categories"),
        ({"categories": [[]]}, "a list of names"),
    ],
)
def test_arguments_that_the_tool_does_not_take(tmp_path, arguments, says):
    with pytest.raises(MalformedError, match=says):
        rules.load(written(tmp_path, BOOK)).tool("rules").call(arguments)


def changed(**changes):
    return {**BOOK, "categories": [{**CATEGORY, **changes}]}


@pytest.mark.parametrize(
    ("book", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "in one another"),
        ('{"title": "\\ud800", "general": "", "categories": []}', "half a surrogate pair"),
        ("[]", "is a list; expected an object with title, general, categories"),
        ({"title": "", "general": "x"}, r"missing \['categories'\]"),
        ({**BOOK, "version": 2}, r"unknown \['version'\]"),
        ({**BOOK, "general": None}, "general is a NoneType; expected text"),
        ({**BOOK, "categories": {}}, "categories is a dict; expected a list"),
        ({**BOOK, "categories": ["noise"]}, "category 1 is a str"),
        (changed(name="No Noise"), "lower-case letters"),
        (changed(objective=" "), r"category 1 \(noise\): its objective is empty"),
        (changed(refuse="sirens"), "refuse is not a list"),
        (changed(help=[""]), "help is not a list of texts"),
        (changed(refuse=[], help=[]), "neither what to refuse"),
        ({**BOOK, "categories": [CATEGORY, CATEGORY]}, "'noise' stands twice"),
        ({"title": "", "general": " ", "categories": []}, "has no rules"),
    ],
)
def test_one_line_for_a_book_that_does_not_work(tmp_path, book, says):
    with pytest.raises(UserError, match=says) as error:
        rules.load(written(tmp_path, book))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_no_book(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        rules.load(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="no such file"):
        rules.load(str(tmp_path))
