"""Every factory that a config names, tried against its signature before anything slow starts."""

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from lrm_align.errors import UserError
from lrm_align.factory import resolve
from lrm_align.plain import plain
from lrm_align.settings.checking import check
from lrm_align.settings.run import RunSettings
from lrm_align.settings.setting import Call, fields, taken


def check_factories(config: Mapping[str, Any], where: str = "config") -> None:
    """Resolves every import path of a config and binds its arguments, calling none.

    Args:
      config: plain values or a ConfigDict.
      where: how messages call it.

    Raises:
      UserError: no such module or name, something that cannot be called, or arguments that it does not take.
    """
    for place, path, call, values in _calls(plain(config), RunSettings, where):
        if ":" not in path:
            continue
        made = resolve(path)
        if not callable(made):
            raise UserError(f"{place} is {path!r}, a {type(made).__name__}; it names a factory, which can be called")
        try:
            signature = inspect.signature(made)
        except ValueError:  # some built-in functions have none
            continue
        arguments, beside = values.get(call.args, {}), place.rpartition(".")[0]
        for more in ("", *call.more):
            laid_over = values.get(more, {}) if more else {}
            keywords = {**arguments, **laid_over, **dict.fromkeys(call.given)}
            try:
                signature.bind(*(None,) * call.positional, **keywords)
            except TypeError as error:
                raise UserError(
                    f"{beside}.{more or call.args} does not fit {path}: {error}; its arguments are {signature}"
                ) from None
            if (cls := taken(made)) is not None:
                rest = {key: value for key, value in keywords.items() if key not in signature.parameters}
                check(rest, cls, f"{beside}.{more or call.args}")


def _calls(values: Mapping[str, Any], cls: type, where: str) -> Iterator[tuple[str, str, Call, Mapping[str, Any]]]:
    known = fields(cls)
    for key, value in values.items():
        one = known.get(key)
        if one is None:
            continue
        if one.section and isinstance(value, Mapping):
            inner = value.items() if one.named else [("", value)]
            for name, section in inner:
                yield from _calls(section, one.type, f"{where}.{key}.{name}".rstrip("."))
        elif one.call is not None:
            yield f"{where}.{key}", str(value), one.call, values


def added_arguments(config: ConfigDict, argv: Sequence[str]) -> list[str]:
    """Gives factories the arguments that the command line adds, and another one none of those of the one before.

    What the config has no key for is read as a Python literal, or else as a text.

    >>> config = ConfigDict({"guard": {"factory": "a:load", "args": {"path": "x"}}})
    >>> added_arguments(config, ["run", "--config.guard.factory=b:Mine", "--config.guard.args.bar=0.5", "--dry_run"])
    ['run', '--config.guard.factory=b:Mine', '--dry_run']
    >>> config.guard.args.to_dict()
    {'bar': 0.5}

    Args:
      config: gets the arguments.
      argv: the command line.

    Returns:
      the words of the command line without those arguments.
    """
    given = dict(word.lstrip("-").partition("=")[::2] for word in argv[1:] if word.startswith("-") and "=" in word)
    added: set[str] = set()
    for place, before, call, _ in list(_calls(plain(config), RunSettings, "config")):
        path, beside = given.get(place, before), place.rpartition(".")[0]
        if ":" not in path:
            continue
        section_ = functools.reduce(lambda found, name: found[name], beside.split(".")[1:], config)
        for name in (call.args, *call.more):
            if not isinstance(section_.get(name), ConfigDict):
                continue
            known = section_[name] if path == before else ConfigDict()
            new = {key: given[f"{beside}.{name}.{key}"] for key in _names(given, f"{beside}.{name}.") - set(known)}
            if path == before and not new:
                continue
            with config.unlocked():
                section_[name] = ConfigDict({**known, **{key: _literal(text) for key, text in new.items()}})
            added |= {f"{beside}.{name}.{key}" for key in new}
    return [word for word in argv if word.lstrip("-").partition("=")[0] not in added]


def _names(given: Mapping[str, str], start: str) -> set[str]:
    """What stands behind a beginning, where no dot follows."""
    names = {key.removeprefix(start) for key in given if key.startswith(start)}
    return {name for name in names if "." not in name}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
