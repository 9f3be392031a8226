"""A config against the settings: unknown keys, types, ranges; and the part of it that can change a result."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from lrm_align.errors import UserError
from lrm_align.plain import plain
from lrm_align.settings.run import RunSettings
from lrm_align.settings.setting import LARGEST, Setting, fields

Made = TypeVar("Made")


def check(config: Mapping[str, Any], cls: type = RunSettings, where: str = "config") -> None:
    """Every key of a config is known, and its value of the right type and in its range.

    Sections that no setting defines are left alone: a fork's recipe may have its own.

    Args:
      config: plain values or a ConfigDict.
      cls: the dataclass of its settings.
      where: how messages call it.

    Raises:
      UserError: the first mistake.

    >>> check({"train": {"epochs": 0}})
    Traceback (most recent call last):
    lrm_align.errors.UserError: config.train.epochs is 0; it must be an integer, at least 1 (passes over the data)
    """
    known = fields(cls)
    for key, value in plain(config).items():
        path = f"{where}.{key}"
        if key in known:
            _check_one(value, known[key], path)
        elif cls is not RunSettings:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {where}.{near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"{path} is no setting; {hint}")
        elif not isinstance(value, Mapping) and (near := difflib.get_close_matches(str(key), known, 1, cutoff=0.8)):
            raise UserError(f"{path} is no setting; did you mean {where}.{near[0]}?")


def made(cls: type[Made], values: Mapping[str, Any], where: str) -> Made:
    """The settings of a section, with the defaults of its dataclass for what a config leaves out.

    Raises:
      UserError: an unknown key, or a value out of its range.

    >>> from lrm_align.settings.serving import ServeSettings
    >>> made(ServeSettings, {"slots": 4}, "config.serve").slots
    4
    """
    check(values, cls, where)
    return cls(**plain(values))


def _check_one(value: Any, one: Setting, path: str) -> None:
    if not one.section:
        if not one.holds(value):
            absurd = one.type is int and isinstance(value, int) and abs(value) > LARGEST
            most = f", at most {LARGEST}" if absurd and one.most is None else ""
            raise UserError(f"{path} is {_shown(value)}; it must be {one.range}{most} ({_about(one)})")
        return
    if not isinstance(value, Mapping):
        raise UserError(f"{path} is {_shown(value)}; it is a section with the keys {', '.join(fields(one.type))}")
    if one.named:
        for name, inner in value.items():
            if not isinstance(inner, Mapping):
                raise UserError(f"{path}.{name} is {_shown(inner)}; it must be a mapping ({one.help})")
            check(inner, one.type, f"{path}.{name}")
    else:
        check(value, one.type, path)


def counted(values: Mapping[str, Any], cls: type = RunSettings) -> dict[str, Any]:
    """The values without those that cannot change a result: what a fingerprint is made of.

    A key that no setting defines counts. Integers count as the floats that they stand for.

    >>> counted({"seed": 1, "wandb": "mine", "lora": {"alpha": 16}, "own": 3})
    {'seed': 1, 'lora': {'alpha': 16.0}, 'own': 3}
    """
    known: dict[str, Setting] = fields(cls)
    kept: dict[str, Any] = {}
    for key, value in plain(values).items():
        one = known.get(key)
        if one is None:
            kept[key] = value
        elif one.neutral:
            continue
        elif one.section and isinstance(value, Mapping):
            if one.named:
                kept[key] = {name: counted(inner, one.type) for name, inner in value.items()}
            elif (inside := counted(value, one.type)) or not value:
                kept[key] = inside  # a section of neutral settings alone is as good as none
        else:
            kept[key] = float(value) if one.type is float and isinstance(value, int) else value
    return kept


def _about(one: Setting) -> str:
    return f"{one.help}, in {one.unit}" if one.unit else one.help


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
