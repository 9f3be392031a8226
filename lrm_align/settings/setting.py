"""A setting: one field of a frozen dataclass, with its type, range, unit, source and a line of help."""

import dataclasses
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

_KEY = "setting"
LARGEST = 2**32 - 1  # of any integer: seeds have 32 bits, and no size has more
F = TypeVar("F", bound=Callable[..., Any])
_KINDS = {
    int: "an integer", float: "a finite number", bool: "True or False", str: "a text", tuple: "a tuple",
    dict: "a mapping",
}  # fmt: skip


class Call(NamedTuple):
    """How the factory behind an import path is called, so that a config's arguments can be tried beforehand.

    Attributes:
      args: the sibling key that holds its keyword arguments.
      more: further sibling keys whose entries are laid over them, each a call of its own.
      positional: arguments that the code hands it by position.
      given: keywords that the code adds.
    """

    args: str = "args"
    more: tuple[str, ...] = ()
    positional: int = 0
    given: tuple[str, ...] = ()


class Setting(NamedTuple):
    """A field as the checks see it.

    Attributes:
      type: int, float, bool, str, tuple, dict, or the dataclass of a section.
      default: where a config leaves the key out, and the reader knows one.
      help: a line for people.
      unit: of a number.
      source: where the default is from; "ours" where no paper or library says.
      neutral: why another value cannot change a result; empty: it can, so it is part of every fingerprint.
      least, above, most, below: bounds, inclusive and exclusive; None for none.
      among: the values that there are; None for any.
      call: of a factory; None for other settings.
      named: a mapping from names that a user chooses to sections of this type.
      partial: a section that lays some of its keys over another's.
      element: type of a tuple's entries or a mapping's values; None for any.
    """

    type: type
    default: Any
    help: str
    unit: str = ""
    source: str = "ours"
    neutral: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    among: tuple[Any, ...] | None = None
    call: Call | None = None
    named: bool = False
    partial: bool = False
    element: Any = None

    @property
    def section(self) -> bool:
        """Whether it holds settings of its own."""
        return dataclasses.is_dataclass(self.type)

    @property
    def range(self) -> str:
        """The values that it takes, in words.

        >>> Setting(int, 1, "passes", least=1, most=9).range
        'an integer, at least 1 and at most 9'
        """
        if self.among is not None:
            return "one of " + ", ".join(map(repr, self.among))
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        kind = _KINDS[self.type]
        if self.element is not None:
            kind = f"{kind}, each entry {_KINDS[self.element]}"
        return f"{kind}, {said}" if said else kind

    def holds(self, value: Any) -> bool:
        """Whether a value is of the type and in the range.

        >>> Setting(float, 0.1, "a share", least=0, below=1).holds(1)
        False
        >>> Setting(int, 1, "a size", least=1).holds(10**20)
        False
        """
        if self.type is float:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        elif self.type is int:
            fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
        elif self.type is tuple:
            fits = isinstance(value, tuple | list) and self._holds_all(value)
        elif self.type is dict:
            fits = isinstance(value, Mapping) and self._holds_all(value.values())
        else:
            fits = isinstance(value, self.type)
        if not fits or (self.among is not None and value not in self.among):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def _holds_all(self, values: Collection[Any]) -> bool:
        return self.element is None or all(Setting(self.element, None, self.help).holds(value) for value in values)


def setting(default: Any, help: str, **options: Any) -> Any:
    """A field of a dataclass of settings.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Packing:
    ...     rows: int = setting(8, "rows of a batch", least=1)
    >>> fields(Packing)["rows"].range
    'an integer, at least 1'

    Args:
      default: of the field.
      help: a line for people.
      options: other attributes of `Setting`.
    """
    if options.get("among") is not None:
        options["among"] = tuple(options["among"])
    made = {"default_factory": lambda: dict(default)} if isinstance(default, dict) else {"default": default}
    return dataclasses.field(**made, metadata={_KEY: {"default": default, "help": help, **options}})


def factory(default: str, help: str, call: Call | None = None, **options: Any) -> Any:
    """A setting that names a factory by import path, "package.module:name"."""
    return setting(default, help, call=call or Call(), **options)


def section(help: str, **options: Any) -> Any:
    """A field that holds a dataclass of settings, which a config may leave out."""
    return setting(None, help, **options)


def takes(cls: type) -> Callable[[F], F]:
    """Says of a factory what its `**arguments` are: the settings of a dataclass, with which they are checked.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes:
    ...     harmful: int = setting(600, "prompts", least=0)
    >>> @takes(Sizes)
    ... def prompts(seed, **sizes): ...
    >>> taken(prompts)
    <class 'lrm_align.settings.setting.Sizes'>
    """

    def mark(function: F) -> F:
        function.__dict__[_KEY] = cls
        return function

    return mark


def taken(function: Any) -> type | None:
    """The dataclass of a factory's `**arguments`, where it says one."""
    return getattr(function, "__dict__", {}).get(_KEY)


def fields(cls: type) -> dict[str, Setting]:
    """The settings of a dataclass by name, in order."""
    types = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        if _KEY not in field.metadata:
            raise TypeError(f"{cls.__name__}.{field.name} is no setting: define it with `setting`")
        annotation = types[field.name]
        found[field.name] = Setting(_plain_type(annotation), **field.metadata[_KEY], element=_element(annotation))
    return found


def paths(cls: type, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Every setting below a dataclass with its path, without sections; `NAME` is a name that a user chooses."""
    for name, one in fields(cls).items():
        if one.section:
            yield from paths(one.type, f"{prefix}{name}.{'NAME.' if one.named else ''}")
        else:
            yield prefix + name, one


def _plain_type(annotation: Any) -> type:
    """int for `int | None`, dict for `Mapping[str, Any]`, and so on."""
    options: Collection[Any] = [part for part in typing.get_args(annotation) if part is not type(None)]
    origin = typing.get_origin(annotation)
    if origin is None:
        return annotation
    if origin in (tuple, list):
        return tuple
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict
    (only,) = options
    return _plain_type(only)


def _element(annotation: Any) -> type | None:
    """int for `tuple[int, ...]`, dict for `Mapping[str, Mapping[str, Any]]`; None where entries may be anything."""
    arguments = typing.get_args(annotation)
    kind: Any = _plain_type(annotation)
    of = arguments[:1] if kind is tuple else arguments[1:] if kind is dict else ()
    return _plain_type(of[0]) if of and of[0] is not Any else None
