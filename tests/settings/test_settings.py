"""A setting is defined once: what is shipped fits, and what is out of its range is refused by its name."""

import dataclasses
import importlib.util
import math
import pathlib

import pytest
from etils import epath

from lrm_align import settings
from lrm_align.config import load, resolve
from lrm_align.errors import UserError, one_line
from lrm_align.evals import perplexity
from lrm_align.models import attention, remat
from lrm_align.plain import plain
from lrm_align.recipes import branching, prefix_search
from lrm_align.rl import settings as rl_settings
from lrm_align.scoring import framed
from lrm_align.settings import RunSettings, setting
from lrm_align.traces import plan

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
SETTINGS = dict(settings.paths(RunSettings))


def presets(file: pathlib.Path) -> list[str]:
    """A config file as it stands, and with each of its presets."""
    spec = importlib.util.spec_from_file_location(f"presets_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables = [vars(module).get(name, {}) for name in ("PRESETS", "VARIANTS", "MODELS")]
    return [str(file), *(f"{file}:{name}" for table in tables for name in table)]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_preset_is_within_its_ranges_and_names_factories_that_take_its_arguments(file):
    for target in presets(file):
        config = load(target)
        settings.check(config)
        settings.check_factories(config)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_key_of_a_config_is_defined(file):
    values = plain(load(str(file)))
    known = settings.fields(RunSettings)
    assert set(values) <= set(known), "a section that no dataclass defines is neither checked nor explained"


def test_every_setting_says_what_it_is_and_its_default_is_in_range():
    for path, one in SETTINGS.items():
        assert one.help and one.help[-1] != ".", path
        assert one.default in ("", 0, None) or one.type is dict or one.holds(one.default), path
        if one.type in (int, float) and "temperature" not in path and path != "seed":
            assert one.least is not None or one.above is not None, f"{path} has no lower bound"


def wrong_values(one):
    """Values of the wrong type and out of the range, for any setting."""
    yield from {int: ["1", 1.5, True, None], float: ["1", True, None, math.nan, math.inf]}.get(one.type, [])
    yield from {bool: [1, "True"], str: [1, None, ("a",)], tuple: ["ab", 3], dict: [(), "a"]}.get(one.type, [])
    if one.element is not None:
        entry = {int: "a", str: 3, dict: 3}[one.element]
        yield {"a": entry} if one.type is dict else (entry,)
    if one.least is not None:
        yield one.least - 1
    if one.above is not None:
        yield one.above
    if one.most is not None:
        yield one.most + 1
    if one.below is not None:
        yield one.below
    if one.among is not None:
        yield "no such thing"


@pytest.mark.parametrize("path", sorted(SETTINGS))
def test_a_wrong_value_is_one_line_that_names_key_value_and_range(path):
    one = SETTINGS[path]
    for value in wrong_values(one):
        *sections, name = path.split(".")
        config = {name: value}
        for section in reversed(sections):
            config = {section: config}
        with pytest.raises(UserError) as error:
            settings.check(config)
        said = one_line(error.value)
        assert f"config.{path} is {value!r}" in said and one.range in said, said


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"train": {"epoch": 1}}, "config.train.epoch is no setting; did you mean config.train.epochs?"),
        ({"train": 3}, "config.train is 3; it is a section with the keys objective"),
        ({"sets": {"mine": 3}}, "config.sets.mine is 3; it must be a mapping"),
        ({"sets": {"mine": {"limit": -1}}}, "config.sets.mine.limit is -1; it must be an integer, at least 0"),
        ({"seeed": 1}, "config.seeed is no setting; did you mean config.seed?"),
        ({"guard": {"threshold": math.nan}}, "config.guard.threshold is nan"),
    ],
)
def test_mistakes_of_structure(config, says):
    with pytest.raises(UserError) as error:
        settings.check(config)
    assert says in one_line(error.value)


LAID_OPEN = {  # of a lab's config, what no section defines and its recipe finds out
    "an evaluation's set": ("quickstart", {"prompts": {"against": {"mine": {"pth": "a.jsonl"}}}}, "argument: 'path'"),
    "a loss behind a preset": ("lab_grpo_guard", {"rl": {"objective_args": {"nope": 1}}}, "argument 'nope'"),
    "a table": ("lab_rapo", {"levels": {"table": {"nope": 1}}}, "argument 'nope'"),
    "a question": ("lab_safe_trigger", {"judge": {"questions": {"f_safe": {"template": "?"}}}}, "f_safe has no one"),
    "a measurement": ("lab_safethink", {"depth": {"args": {"nope": 1}}}, r"config\.depth\.args over .* is no setting"),
}


@pytest.mark.parametrize("name", LAID_OPEN)
def test_mistakes_in_open_mappings_are_found_by_the_preflight(name, tmp_path):
    file, changes, message = LAID_OPEN[name]
    config = load(str(ROOT / "configs" / f"{file}.py")).unlock()
    for section, values in changes.items():
        for key, value in values.items():
            config[section][key] = value
    settings.check(config)
    with pytest.raises(UserError, match=message):
        settings.check_factories(config)
        resolve(config.recipe)(config, epath.Path(tmp_path))


def test_a_section_of_a_fork_is_left_alone_and_counts():
    config = {"own": {"anything": math.nan}, "seed": 1, "wandb": "mine"}
    settings.check(config)
    assert settings.counted(config) == {"own": {"anything": pytest.approx(math.nan, nan_ok=True)}, "seed": 1}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"guard": {"factory": "lrm_align.lab:NoGuard", "args": {}}}, "has no 'NoGuard'"),
        ({"guard": {"factory": "lrm_align.lab:RuleGuard", "args": {"path": "x"}}}, "config.guard.args does not fit"),
        ({"guard": {"factory": "math:pi", "args": {}}}, "it names a factory, which can be called"),
        ({"train": {"objective": "lrm_align.objectives:sft", "objective_args": {"beta": 1}}}, "objective_args"),
        ({"evaluate": {"factory": "lrm_align.lab:evaluate", "args": {"atack": 1}}}, "config.evaluate.args"),
        ({"evaluate": {"factory": "lrm_align.lab:evaluate", "table_args": {"atack": 1}}}, "config.evaluate.table_args"),
        ({"sets": {"mine": {"factory": "lrm_align.lab:benchmark", "args": {"cuont": 1}}}}, "config.sets.mine.args"),
    ],
)
def test_factories_are_tried_before_they_are_called(config, says):
    with pytest.raises(UserError) as error:
        settings.check_factories(config)
    assert says in one_line(error.value)


def test_names_that_settings_take_are_those_that_the_code_knows():
    assert SETTINGS["model.remat"].among == remat.POLICIES and SETTINGS["model.attention"].among == attention.KERNELS
    assert SETTINGS["perplexity.span"].among == perplexity.SPANS
    assert SETTINGS["perplexity.context"].among == perplexity.CONTEXTS
    assert SETTINGS["part"].among == framed.PARTS and SETTINGS["search.place"].among == prefix_search.PLACES
    assert SETTINGS["train.overlong"].among == plan.OVERLONG and SETTINGS["rl.old_logp"].among == rl_settings.OLD_LOGP
    assert SETTINGS["branches.balance"].among == branching.BALANCES


def test_a_setting_is_one_field():
    """What is added in one place is checked, explained and counted."""

    @dataclasses.dataclass(frozen=True)
    class Own:
        width: int = setting(8, "of the net", least=1, unit="units")
        note: str = setting("", "for people", neutral="nobody computes with it")

    settings.check({"width": 4}, Own, "config.own")
    with pytest.raises(
        UserError, match=r"config.own.width is 0; it must be an integer, at least 1 \(of the net, in units\)"
    ):
        settings.check({"width": 0}, Own, "config.own")
    assert settings.counted({"width": 4, "note": "a"}, Own) == {"width": 4}
    assert dict(settings.paths(Own))["width"].unit == "units"
