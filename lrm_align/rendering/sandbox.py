"""Jinja's sandbox with what transformers documents for chat templates, and nothing that differs between two runs."""

import datetime
import json
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What a template's own mistakes raise while it runs, next to jinja's exceptions.
FAULTS = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError,
    RuntimeError, StopIteration, MemoryError,
)  # fmt: skip


_OF_DICT = frozenset(dir(dict))
# Safe ones; a format string reaches into what is put in it.
_OF_STR = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text for other trainers; here it is its body."""

    tags = {"generation"}  # noqa: RUF012, as jinja2.ext.Extension asks for

    def parse(self, parser: Any) -> list[Any]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Refuses an unsafe attribute at once, instead of printing nothing for it, and keeps bytes out of reach.

    Args:
      date: what `strftime_now` writes, as YYYY-MM-DD; midnight in UTC, so that a prompt has the same ids every day.
    """

    def __init__(self, date: str):
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
        day = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = day.strftime
        # Both draw at random: the ids of a prompt would change from one run to the next.
        del self.filters["random"], self.globals["lipsum"]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute or else an item, as jinja has it: messages and their texts first, which make up most of it."""
        kind = type(obj)
        if kind is dict and attribute not in _OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return getattr(obj, attribute) if kind is str and attribute in _OF_STR else super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may use an attribute."""
        return not isinstance(obj, bytes) and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Raises instead of returning something undefined."""
        raise jinja2.exceptions.SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__} is unsafe")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
