"""Reading a config file, its preset and its overrides; hashing it; calling what it names."""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from lrm_align.errors import UserError


class Invocation(NamedTuple):
    """A parsed command line.

    Attributes:
      config: the resolved config, locked.
      name: the config file's stem, with the preset where one was given.
      options: the command's other flags by name.
    """

    config: ConfigDict
    name: str
    options: Mapping[str, Any]


class Usage(NamedTuple):
    """What a command that runs a config says of itself.

    Attributes:
      command: how it is called, up to its flags.
      about: what it does, one or two lines.
      flags: what each does, by how it is written: "--port=N" takes a text, "--dry_run" takes none.
      examples: whole command lines.
    """

    command: str
    about: str
    flags: Mapping[str, str]
    examples: Sequence[str]

    def names(self) -> dict[str, bool]:
        """Each flag's name, and whether it takes a text."""
        return {flag.removeprefix("--").partition("=")[0]: "=" in flag for flag in self.flags}

    def text(self) -> str:
        """The help."""
        flags_ = {
            "--config=FILE.py[:PRESET]": "the config, and a preset of it",
            "--config.KEY=VALUE": "another value for a key of it: --config.train.epochs=1",
            **self.flags,
        }
        width = max(map(len, flags_)) + 2
        lines = [f"usage: {self.command} --config=FILE.py[:PRESET] [--config.KEY=VALUE …] [FLAGS]", "", self.about, ""]
        lines += ["flags:", *(f"  {flag:{width}}{help_}" for flag, help_ in flags_.items()), ""]
        return "\n".join([*lines, "examples:", *(f"  {example}" for example in self.examples)])


WORKDIR = {"--workdir=DIR": "where the run leaves its files; runs/NAME-PRESET if left out"}
DRY_RUN = {"--dry_run": "print the resolved config and what would be done, and stop"}


def parse(argv: Sequence[str], usage: Usage) -> Invocation:
    """Parses `--config=FILE[:PRESET] [--config.key=value …]` and the command's own flags.

    Args:
      argv: the command line, program name first.
      usage: of the command.

    Raises:
      UserError: no or a missing config file, an unknown preset, key or flag, a value of the wrong type, a word that is
        no flag.
      SystemExit: status 0, after printing the help for --help.
    """
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(usage.text())
        raise SystemExit(0)
    values = flags.FlagValues()
    for name, takes_text in usage.names().items():
        if takes_text:
            flags.DEFINE_string(name, None, "", flag_values=values)
        else:
            flags.DEFINE_boolean(name, False, "", flag_values=values)
    target, rest = _take_config(argv)
    config = load(target)
    _check_overrides(config, rest)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(rest))
        words = values(list(rest))[1:]
    except flags.Error as error:
        raise UserError(error) from None
    if words:
        raise UserError(f"unexpected argument {words[0]!r}; see {usage.command} --help")
    options = {name: values[name].value for name in usage.names()}
    return Invocation(values["config"].value, pathlib.Path(target).name.replace(".py", ""), options)


def load(target: str) -> ConfigDict:
    """Runs `get_config(preset)` of `FILE.py[:PRESET]`, or of an importable module `configs.NAME[:PRESET]`.

    Raises:
      UserError: the file is missing or has no `get_config`.
    """
    path, _, preset = target.partition(":")
    file = pathlib.Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.py")], 1)
        hint = f"; there is {file.parent / near[0]}" if near else ""
        raise UserError(f"config file not found: {path}{hint}")
    spec = importlib.util.spec_from_file_location(f"lrm_align_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if "get_config" not in vars(module):
        raise UserError(f"config file {path} defines no function get_config(preset)")
    config = module.get_config(preset) if preset else module.get_config()
    return config.lock()


def choose(preset: str, presets: Mapping[str, Any]) -> Any:
    """The entry of a config file's table of presets.

    Raises:
      UserError: an unknown preset, with the nearest one.
    """
    if preset in presets:
        return presets[preset]
    near = difflib.get_close_matches(preset, presets, 1)
    hint = f"did you mean :{near[0]}? " if near else ""
    raise UserError(f"unknown preset :{preset}; {hint}There are {', '.join(':' + name for name in presets)}")


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
    return factory(*positional, **keywords)


def plain(value: Any) -> Any:
    """A config as dicts, tuples and scalars."""
    if isinstance(value, ConfigDict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def digest(value: Any) -> str:
    """A short hash of plain values, equal for equal configs on any machine.

    >>> digest({"b": 1, "a": (1.0, None)}) == digest({"a": (1.0, None), "b": 1})
    True
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _take_config(argv: Sequence[str]) -> tuple[str, list[str]]:
    rest: list[str] = []
    target = None
    arguments = iter(argv)
    for argument in arguments:
        if argument in ("--config", "-config"):
            target = next(arguments, None)
        elif argument.startswith(("--config=", "-config=")):
            target = argument.partition("=")[2]
        else:
            rest.append(argument)
    if not target:
        raise UserError("no config was given: add --config=configs/quickstart.py")
    return target, rest


def _check_overrides(config: ConfigDict, argv: Sequence[str]) -> None:
    known = list(_keys(config))
    for argument in argv[1:]:
        name = argument.lstrip("-").partition("=")[0]
        if not argument.startswith("-") or not name.startswith("config."):
            continue
        key = name.removeprefix("config.").partition("[")[0]
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            hint = f"; did you mean --config.{near[0]}?" if near else ""
            raise UserError(f"unknown config key --config.{key}{hint}")


def _keys(config: ConfigDict, prefix: str = ""):
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, ConfigDict):
            yield from _keys(value, f"{prefix}{key}.")
