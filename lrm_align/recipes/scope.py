"""What of a config each stage of a recipe depends on.

Every setting of a config counts for every stage, except those that cannot change a result (they say so where they are
defined) and those that the recipe names in `read_by`, which count for the stages named there. So what is forgotten
runs a stage once too often, never once too seldom. And what is named wrongly is found: while a stage runs, reading a
setting that neither it nor a stage before it counts is an error of ours.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align.models import hf_files
from lrm_align.plain import plain
from lrm_align.recipes.stage import Stage, Summary
from lrm_align.settings import counted

Run = Callable[[epath.Path, Mapping[str, epath.Path]], Summary]


class UndeclaredReadError(RuntimeError):
    """A stage reads a setting that its fingerprint does not cover."""


class Scope:
    """Makes the stages of a recipe.

    Args:
      config: of the run.
      read_by: for settings and sections, by path, the stages that read them; the longest path decides.
    """

    def __init__(self, config: ConfigDict, read_by: Mapping[str, Collection[str]]):
        self.config = config
        self.read_by = {**read_by}
        self._depends: dict[str, tuple[str, ...]] = {}

    def stage(
        self,
        name: str,
        run: Run,
        depends: tuple[str, ...] = (),
        follow: Callable[[epath.Path, Mapping[str, epath.Path], int, int], int] | None = None,
        **more: Any,
    ) -> Stage:
        """A stage whose settings are what counts for it.

        Args:
          name, run, depends, follow: of the stage.
          **more: plain values that it depends on beside the config: what tells its model, its prompts.
        """
        self._depends[name] = depends

        @functools.wraps(run)
        def guarded(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
            with self._reading(name):
                return run(directory, inputs)

        return Stage(name, {"config": self.counted(name), **plain(more)}, guarded, depends, follow)

    def counted(self, name: str) -> dict[str, Any]:
        """The settings that count for a stage; files and models that they name count by their contents."""
        kept = counted(self._visible(plain(self.config), {name}))
        return _contents(kept)

    def _visible(self, values: Mapping[str, Any], stages: set[str], prefix: str = "", seen: bool = True) -> dict:
        kept: dict[str, Any] = {}
        for key, value in values.items():
            path = f"{prefix}{key}"
            sees = bool(stages & {*self.read_by[path]}) if path in self.read_by else seen
            if isinstance(value, Mapping):
                inner = self._visible(value, stages, f"{path}.", sees)
                if sees or inner:
                    kept[key] = inner
            elif sees:
                kept[key] = value
        return kept

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """While a stage runs, what neither it nor a stage before it counts cannot be read."""
        stages, stack = {name}, [name]
        while stack:
            above = self._depends.get(stack.pop(), ())
            stack += [one for one in above if one not in stages]
            stages |= {*above}
        hidden: list[tuple[ConfigDict, str, Any]] = []
        self._hide(self.config, stages, name, hidden)
        try:
            yield
        finally:
            for section, key, value in hidden:
                section._fields[key] = value

    def _hide(
        self, section: ConfigDict, stages: set[str], name: str, hidden: list, prefix: str = "", seen: bool = True
    ) -> None:
        for key in list(section._fields):
            path, value = f"{prefix}{key}", section._fields[key]
            sees = bool(stages & {*self.read_by[path]}) if path in self.read_by else seen
            deeper = any(other.startswith(f"{path}.") for other in self.read_by)
            if isinstance(value, ConfigDict) and (sees or deeper):
                self._hide(value, stages, name, hidden, f"{path}.", sees)
            elif not sees:
                hidden.append((section, key, value))
                section._fields[key] = _Hidden(path, name, value)


def whole(config: ConfigDict) -> dict[str, Any]:
    """All of a config, whatever stage is running: to be shown to people, never to compute with."""

    def shown(value: Any) -> Any:
        if isinstance(value, _Hidden):
            value = object.__getattribute__(value, "_value")
        if isinstance(value, ConfigDict):
            return {key: shown(item) for key, item in value._fields.items()}
        return plain(value)

    return shown(config)


def _fails(self: "_Hidden", *_: Any, **__: Any) -> Any:
    path, stage = object.__getattribute__(self, "_path"), object.__getattribute__(self, "_stage")
    raise UndeclaredReadError(f"stage {stage!r} reads config.{path}, which does not count for it: see `read_by`")


class _Hidden:
    """Stands where a setting is that a stage must not read."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str, stage: str, value: Any):
        self._path, self._stage, self._value = path, stage, value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _fails(self)


for _name in (
    "bool", "eq", "ne", "lt", "le", "gt", "ge", "int", "float", "index", "str", "iter", "len", "getitem", "contains",
    "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "call",
):  # fmt: skip
    setattr(_Hidden, f"__{_name}__", _fails)


def _contents(value: Any) -> Any:
    """Plain values in which a local file or model directory stands as what is in it, not as where it lies."""
    if isinstance(value, Mapping):
        return {key: _model(item) if key == "path_or_hub_id" else _contents(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_contents(item) for item in value)
    if not isinstance(value, str) or not 0 < len(value) < 1024 or not ({"/", "."} & set(value)) or "\n" in value:
        return value
    place = epath.Path(value)
    if place.is_file():
        return {"file": hashlib.sha256(place.read_bytes()).hexdigest()}
    if (place / "config.json").is_file():
        return _model(value)
    return value


def _model(path_or_hub_id: str) -> Any:
    """A model by its files; one of a hub was fetched when it was looked at."""
    return {"model": hf_files.fingerprint(hf_files.resolve(path_or_hub_id))} if path_or_hub_id else path_or_hub_id
