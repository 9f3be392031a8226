"""The rule book that ASCL's tool looks things up in: categories with an objective and what to refuse and to help with.

`rules.json` beside this file is ours, in general words; a config may name another file of the same form.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from lrm_align import untrusted
from lrm_align.chat.tool_calls import MalformedError, Result, Tool
from lrm_align.errors import UserError

PACKAGED = epath.Path(__file__).parent / "rules.json"
ARGUMENT = "categories"

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LISTS = ("refuse", "help")
_SHOWN = 80  # characters of a user's file in an error message


class Category(NamedTuple):
    """One category of rules.

    Attributes:
      name: what a call names.
      objective: what the rules are for.
      refuse: what is refused.
      help: what is helped with.
    """

    name: str
    objective: str
    refuse: tuple[str, ...]
    help: tuple[str, ...]

    def text(self) -> str:
        """The category as the model reads it.

        >>> print(Category("noise", "Quiet nights.", ("sirens",), ("lullabies", "bells")).text())
        [noise] Quiet nights.
        Refuse: sirens.
        Help with: lullabies; bells.
        """
        lines = [f"[{self.name}] {self.objective}"]
        lines += [f"Refuse: {'; '.join(self.refuse)}."] if self.refuse else []
        lines += [f"Help with: {'; '.join(self.help)}."] if self.help else []
        return "\n".join(lines)


class RuleBook(NamedTuple):
    """The rules.

    Attributes:
      title: heads the description of the tool; empty for no description.
      general: what every answer of the tool begins with.
      categories: in the order of the file; none where the general text is all there is.
    """

    title: str
    general: str
    categories: tuple[Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What a call may name."""
        return tuple(category.name for category in self.categories)

    def text(self, names: tuple[str, ...] = ()) -> str:
        """The general text and the named categories; all of them where none is named (ours)."""
        chosen = [category for category in self.categories if not names or category.name in names]
        return "\n\n".join(part for part in (self.general, *(category.text() for category in chosen)) if part)

    def tool(self, name: str) -> Tool:
        """The look-up as a tool; its record holds the categories that a call named."""
        described = ""
        if self.title:
            described = f"{self.title} by category ({', '.join(self.names)}), to consult when a request may be harmful."
        items = {"type": "string", "enum": list(self.names)}
        properties = {ARGUMENT: {"type": "array", "items": items, "description": "Empty for all of them."}}
        parameters = {"type": "object", "properties": properties} if self.categories else {}
        return Tool(name, self._look_up, described, parameters, ARGUMENT if self.categories else "")

    def _look_up(self, arguments: Mapping[str, Any]) -> Result:
        allowed = {ARGUMENT} if self.categories else set()
        if set(arguments) - allowed:
            raise MalformedError(f"unknown arguments; {f'the only one is {ARGUMENT}' if allowed else 'it takes none'}")
        asked = arguments.get(ARGUMENT, [])
        if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
            raise MalformedError(f"{ARGUMENT} is a list of names out of {', '.join(self.names)}")
        if unknown := sum(name not in self.names for name in asked):
            raise MalformedError(f"{unknown} of {len(asked)} {ARGUMENT} are unknown; there are {', '.join(self.names)}")
        names = tuple(name for name in self.names if name in asked)
        return Result(self.text(names), {ARGUMENT: list(names)})


def load(path: str = "") -> RuleBook:
    """Reads a rule book; the packaged one for an empty path.

    The file is a JSON object: `title` (text), `general` (text), `categories` (a list of objects: `name`, `objective`,
    `refuse` and `help`, the last two lists of texts).

    Raises:
      UserError: no such file, no JSON, or not of this form; it names the place.
    """
    place = epath.Path(path).expanduser() if path else PACKAGED
    where = f"rule book {place}"
    if not place.is_file():
        raise UserError(f"{where}: no such file; an empty config.tool.rules takes the packaged one")
    try:
        found = untrusted.read_json(place)
    except UserError as error:
        raise UserError(f"rule book {error}") from None
    _check_keys(found, ("title", "general", "categories"), where)
    categories = found["categories"]
    if not isinstance(categories, list):
        raise UserError(f"{where}: categories is a {type(categories).__name__}; expected a list")
    book = RuleBook(
        _text(found, "title", where),
        _text(found, "general", where),
        tuple(_category(one, f"{where}: category {number}") for number, one in enumerate(categories, start=1)),
    )
    repeated = [name for i, name in enumerate(book.names) if name in book.names[:i]]
    if repeated:
        raise UserError(f"{where}: category {repeated[0]!r} stands twice")
    if not book.text().strip():
        raise UserError(f"{where} has no rules: neither a general text nor categories")
    return book


def _category(found: Any, where: str) -> Category:
    _check_keys(found, ("name", "objective", *_LISTS), where)
    name = _text(found, "name", where)
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: its name is {name[:_SHOWN]!r}; expected lower-case letters, digits and underscores")
    if not _text(found, "objective", where).strip():
        raise UserError(f"{where} ({name}): its objective is empty")
    lists = []
    for key in _LISTS:
        texts = found[key]
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UserError(f"{where} ({name}): {key} is not a list of texts that are not empty")
        lists.append(tuple(text.strip().rstrip(".") for text in texts))
    if not any(lists):
        raise UserError(f"{where} ({name}): it says neither what to refuse nor what to help with")
    return Category(name, found["objective"].strip(), *lists)


def _check_keys(found: Any, wanted: tuple[str, ...], where: str) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where} is a {type(found).__name__}; expected an object with {', '.join(wanted)}")
    missing, unknown = [key for key in wanted if key not in found], sorted(set(found) - set(wanted))
    if missing or unknown:
        raise UserError(f"{where}: missing {missing}, unknown {unknown}; expected {', '.join(wanted)}"[:300])


def _text(found: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(found[key], str):
        raise UserError(f"{where}: {key} is a {type(found[key]).__name__}; expected text")
    return found[key]
