"""What a config names by import path: finding it and calling it."""

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

from lrm_align.errors import UserError
from lrm_align.plain import plain

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


def resolve(path: str) -> Any:
    """The object behind "package.module:name": a factory that a config names, ours or a fork's.

    >>> resolve("math:sqrt")(9.0)
    3.0

    Raises:
      UserError: no such module or name.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise UserError(f"{path!r} is not an import path of the form package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that exists but fails on an import of its own is a fault, not a misspelt path.
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise UserError(f"{path!r}: there is no module {error.name!r}") from None
    if name not in vars(module):
        near = difflib.get_close_matches(name, vars(module), 1)
        hint = f"; did you mean {module_name}:{near[0]}?" if near else ""
        raise UserError(f"{path!r}: module {module_name} has no {name!r}{hint}")
    return vars(module)[name]


def build(path: str, arguments: Mapping[str, Any], *positional: Any) -> Any:
    """Calls the factory behind an import path with plain keyword arguments.

    >>> build("fractions:Fraction", {"denominator": 3}, 2)
    Fraction(2, 3)

    Raises:
      UserError: no such module or name, no function, or arguments that it does not take.
    """
    factory, keywords = resolve(path), plain(arguments)
    if not callable(factory):
        raise UserError(
            f"{path!r} is a {type(factory).__name__}; a config names a factory: a function that returns one"
        )
    signature = inspect.signature(factory)
    try:
        signature.bind(*positional, **keywords)
    except TypeError as error:
        raise UserError(f"{path!r} is not to be called so: {error}; its arguments are {signature}") from None
    try:
        return factory(*positional, **keywords)
    except TypeError as error:  # of a factory that hands its **arguments on
        wrong = _UNEXPECTED.search(str(error))
        if wrong is None or wrong[1] not in keywords or wrong[1] in signature.parameters:
            raise
        raise UserError(f"{path!r} is not to be called so: {error}") from None
