"""Guards by a word behind a preset, for every config that has a guard; arguments of other factories."""

import dataclasses
import inspect
import itertools
import pathlib

import jax
import pytest
from ml_collections import ConfigDict

from lrm_align import config as configs
from lrm_align import settings
from lrm_align.errors import UserError, one_line
from lrm_align.recipes import selection
from lrm_align.scoring import Score
from lrm_align.scoring.llama_guard import LlamaGuard
from lrm_align.scoring.qwen3_guard import Qwen3Guard
from lrm_align.scoring.wild_guard import WildGuard
from lrm_align.settings import guards
from lrm_align.settings.guard_options import FrameOptions, Qwen3GuardOptions, WildGuardOptions
from lrm_align.settings.guards import GUARDS

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
WITH = ("align", "ascl_tpu", "dpo_tpu", "evaluate", "rapo_tpu", "safe_trigger_tpu", "safethink_tpu", "thinksafe_tpu")
USAGE = configs.Usage("command", "Does it.", {"--dry_run": "only look"}, ())


class Mine:
    """A user's guard: no `mesh`, no model directory."""

    name, version = "mine", "1"

    def __init__(self, bar=0.5):
        self.bar = bar

    def score(self, prompts, responses):
        return [Score(self.bar) for _ in prompts]


def loud(path_or_hub_id, bar):
    """A factory of a module that looks at nothing: its directory is its own affair."""
    return Mine(bar)


def parsed(*arguments):
    return configs.parse(["command", *arguments], USAGE).config


@pytest.mark.parametrize(("file", "name"), list(itertools.product(WITH, GUARDS)))
def test_every_guard_goes_with_every_config_or_is_refused_with_the_reason(file, name):
    target = f"{CONFIGS / file}.py:{name}"
    if name == "keywords" and file in ("ascl_tpu", "safe_trigger_tpu", "safethink_tpu"):
        with pytest.raises(UserError, match="keywords judges whole answers to harmful prompts"):
            configs.load(target)
        return
    config = configs.load(target)
    assert config.guard.factory == GUARDS[name].factory
    assert config.guard.args.get("path_or_hub_id", "") == GUARDS[name].model
    settings.check(config)
    settings.check_factories(config)
    measures = config.get("evaluate", {}).get("guard", {"factory": ""})
    assert measures["factory"] != config.guard.factory, "a guard that steers does not grade itself"


def test_a_guard_goes_with_a_preset_and_brings_what_belongs_to_it():
    config = configs.load(f"{CONFIGS / 'align'}.py:small+keywords")
    assert config.train.epochs == 5 and config.filter.factory == guards.KEYWORDS_RULE
    assert configs.load(f"{CONFIGS / 'align'}.py:prompted").filter.factory == guards.CLOSED_AND_SAFE
    config = configs.load(f"{CONFIGS / 'evaluate'}.py:quick+qwen3guard")
    assert (config.part, config.refusal.factory, config.refusal.part) == ("answer", "guard", "answer")
    config = configs.load(f"{CONFIGS / 'evaluate'}.py:prompted")
    assert config.refusal.factory.endswith(":Keywords"), "a chat model is asked of harm alone"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("align.py:keywords+prompted", "names 2 guards, keywords and prompted"),
        ("align.py:small+keyword", "no guard 'keyword'; did you mean +keywords?"),
        ("align.py:small+mine", "the guards are +llamaguard, "),
        ("align.py:promted", "did you mean :prompted?"),
        ("sft.py:keywords", "asks no guard"),
    ],
)
def test_mistakes_are_one_line(target, says):
    with pytest.raises(UserError) as error:
        configs.load(str(CONFIGS / target))
    assert says in one_line(error.value)


def test_arguments_of_the_guard_before_do_not_survive_another():
    file = f"--config={CONFIGS / 'align.py'}"
    config = parsed(file, f"--config.guard.factory={__name__}:Mine", "--config.guard.args.bar=0.25")
    assert config.guard.args.to_dict() == {"bar": 0.25}
    assert parsed(file, f"--config.guard.factory={__name__}:Mine").guard.args.to_dict() == {}
    same = parsed(file, "--config.guard.factory=lrm_align.scoring.llama_guard:load")
    assert same.guard.args.dtype == "bfloat16", "the same one keeps its own"
    with pytest.raises(UserError, match=r"config\.guard\.args does not fit"):
        parsed(file, f"--config.guard.factory={__name__}:Mine", "--config.guard.args.baz=1")
    assert parsed(file, "--config.guard.args.part=answer").guard.args.part == "answer", (
        "an option of the one that is there"
    )
    with pytest.raises(UserError, match=r"config\.guard\.args\.bar is no setting; there are part"):
        parsed(file, "--config.guard.args.bar=1")


@pytest.mark.parametrize(
    ("factory", "wrong", "says"),
    [
        ("lrm_align.judging.prompted:load", {"path_or_hub_id": "x", "question": "rude"}, "question is 'rude'"),
        ("lrm_align.judging.prompted:load", {"path_or_hub_id": "x", "quesion": "harm"}, "did you mean"),
        ("lrm_align.judging.endpoint:load", {"url": "x", "model": "m", "workers": 0}, "workers is 0"),
        ("lrm_align.scoring.qwen3_guard:load", {"path_or_hub_id": "x", "rule": "lax"}, "rule is 'lax'"),
        ("lrm_align.scoring.llama_guard:load", {"path_or_hub_id": "x", "part": "end"}, "part is 'end'"),
        ("lrm_align.scoring.wild_guard:load", {"path_or_hub_id": "x", "max_lenght": 3}, "did you mean"),
        ("lrm_align.judging.keywords:Complies", {"path_or_hub_id": "x"}, "does not fit"),
    ],
)
def test_options_of_a_guard_are_checked_before_anything_is_read(factory, wrong, says):
    with pytest.raises(UserError) as error:
        settings.check_factories({"guard": {"factory": factory, "args": wrong}})
    assert says in one_line(error.value)


@pytest.mark.parametrize(
    ("options", "guard"),
    [(FrameOptions, LlamaGuard), (WildGuardOptions, WildGuard), (Qwen3GuardOptions, Qwen3Guard)],
)
def test_options_have_the_defaults_of_the_guard_that_takes_them(options, guard):
    taken = inspect.signature(guard).parameters
    assert {field.name: field.default for field in dataclasses.fields(options)} == {
        name: one.default
        for name, one in taken.items()
        if name in {field.name for field in dataclasses.fields(options)}
    }
    assert set(taken) - {field.name for field in dataclasses.fields(options)} == {
        "model", "params", "tokenizer", "name", "version", "mesh",
    }  # fmt: skip


def guarded(factory, **args):
    return ConfigDict({"factory": factory, "args": args, "sharded": True, "threshold": 0.5})


def test_a_guard_of_a_user_needs_no_mesh_and_no_model():
    mesh = jax.make_mesh((1,), ("data",))
    for settings_ in (guarded(f"{__name__}:Mine", bar=0.1), guarded(f"{__name__}:loud", path_or_hub_id="x", bar=0.1)):
        selection.check(settings_)
        assert selection.guard(settings_, mesh).score(["p"], ["r"])[0].value == 0.1


def test_a_missing_guard_names_those_that_can_be_had(tmp_path):
    with pytest.raises(UserError, match=r":qwen3guard, :wildguard, :prompted \(any chat model\), :keywords"):
        selection.check(guarded("lrm_align.scoring.llama_guard:load", path_or_hub_id=str(tmp_path / "none")))


def test_an_endpoint_that_is_down_is_found_beforehand():
    with pytest.raises(UserError, match="cannot be reached"):
        selection.check(guarded("lrm_align.judging.endpoint:load", url="http://127.0.0.1:9/v1", model="m"))
