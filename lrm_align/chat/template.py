"""Chat templates are programs of strangers: rendered in a sandbox that sees plain values only."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lrm_align.errors import UserError, one_line

# What a template's own mistakes raise while it runs, next to jinja's exceptions.
FAULTS = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text for other trainers; here it is its body."""

    tags = {"generation"}  # noqa: RUF012, as jinja2.ext.Extension asks for

    def parse(self, parser: Any) -> list[Any]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, made to refuse an unsafe attribute at once instead of printing nothing for it."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise jinja2.exceptions.SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__} is unsafe")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    # Transformers also offers `strftime_now`. It is left out on purpose: the ids of a prompt would change from one day
    # to the next. Templates that test for it fall back to a fixed date; `date_string` can be passed to the others.
    return environment


class ChatTemplate:
    """A compiled chat template with the whitespace rules and filters that Hugging Face renders with.

    >>> ChatTemplate("{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}").render(
    ...     {"messages": [{"role": "user", "content": " hello "}]})
    '[user]hello'

    Args:
      source: the Jinja source.
      name: what the template is called in error messages.

    Raises:
      UserError: the source does not parse.
    """

    def __init__(self, source: str, name: str = "chat template"):
        self.source = source
        self.name = name
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{name} does not parse: {one_line(error)} (line {error.lineno})") from None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text of a conversation.

        Args:
          variables: `messages`, `add_generation_prompt`, special tokens by name, and whatever else the template reads.

        Raises:
          UserError: the template refused the conversation, failed, or tried to leave its sandbox.
        """
        try:
            return self._template.render(**variables)
        except FAULTS as error:
            kind = type(error).__name__
            raise UserError(f"{self.name} failed on this conversation: {kind}: {one_line(error)}") from None
