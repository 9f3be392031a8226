"""A command line: a config file, its preset, its overrides, and the command's own flags."""

import contextlib
import difflib
import importlib.util
import pathlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from lrm_align import settings
from lrm_align.errors import UserError
from lrm_align.factory import build as build
from lrm_align.factory import resolve as resolve
from lrm_align.plain import digest as digest
from lrm_align.plain import plain as plain
from lrm_align.settings import guards


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

    def places(self) -> list[str]:
        """The names of flags that take a directory."""
        return [flag.removeprefix("--").removesuffix("=DIR") for flag in self.flags if flag.endswith("=DIR")]

    def text(self) -> str:
        """The help."""
        flags_ = {
            "--config=FILE.py[:PRESET]": "the config, and a preset of it; :PRESET+GUARD takes another guard",
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
    rest = settings.added_arguments(config, rest)
    _check_overrides(config, rest)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(rest))
        words = values(list(rest))[1:]
    except flags.Error as error:
        raise UserError(error) from None
    if words:
        raise UserError(f"unexpected argument {words[0]!r}; see {usage.command} --help")
    resolved: Any = values["config"].value
    settings.check(resolved)
    settings.check_factories(resolved)
    options = {name: values[name].value for name in usage.names()}
    for name, value in options.items():
        if isinstance(value, str) and value.startswith("--"):  # as --workdir --dry_run is read
            raise UserError(f"--{name} takes a text and is given {value!r}, a flag of its own; write --{name}=TEXT")
    # A shell expands ~ at the beginning of a word, and not in --workdir=~/run.
    options |= {name: str(epath.Path(options[name]).expanduser()) for name in usage.places() if options[name]}
    return Invocation(resolved, pathlib.Path(target).name.replace(".py", ""), options)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """While a recipe is built from a config: a key that the config lacks is a mistake in the config, told in one line.

    Args:
      name: of the config.

    Raises:
      UserError: what the recipe reads is not there.
    """
    try:
        yield
    except (AttributeError, KeyError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frames[-1].filename).parent.name != "config_dict":
            raise
        reader = next(frame for frame in reversed(frames) if pathlib.Path(frame.filename).parent.name != "config_dict")
        place = f"{pathlib.Path(reader.filename).name}:{reader.lineno}"
        key = str(error).strip("'\"\\").partition("'")[0].partition("\\")[0].partition("\n")[0].strip("'\"")
        raise UserError(f"{name}: the config has no key {key!r}, which its recipe reads at {place}") from error


def load(target: str) -> ConfigDict:
    """Runs `get_config(preset)` of `FILE.py[:PRESET][+GUARD]`; the guard is one of `settings.guards`.

    Raises:
      UserError: the file is missing or has no `get_config`, or no such preset or guard.
    """
    path, _, named = target.partition(":")
    preset, guard = guards.split(named)
    file = pathlib.Path(epath.Path(path).expanduser())
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
    if guard:
        guards.give(config, guard)
    return config.lock()


def choose(preset: str, presets: Mapping[str, Any]) -> Any:
    """The entry of a config file's table of presets.

    Raises:
      UserError: an unknown preset, with the nearest one.
    """
    if preset in presets:
        return presets[preset]
    near = difflib.get_close_matches(preset, [*presets, *guards.GUARDS], 1)
    hint = f"did you mean :{near[0]}? " if near else ""
    raise UserError(f"unknown preset :{preset}; {hint}There are {', '.join(':' + name for name in presets)}")


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
