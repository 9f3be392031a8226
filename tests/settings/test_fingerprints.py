"""A measurement belongs to what made it: what can change a result changes the fingerprints of what reads it."""

import copy
import pathlib

import pytest
from etils import epath

from lrm_align import settings
from lrm_align.config import load, resolve
from lrm_align.plain import plain
from lrm_align.recipes import stage as stages
from lrm_align.recipes.scope import Scope, UndeclaredReadError, whole
from lrm_align.settings import RunSettings

ROOT = pathlib.Path(__file__).parents[2]
# Of each recipe a config that runs without downloads.
LAB = ("quickstart", "lab_safe_trigger", "lab_rapo", "lab_ascl", "lab_grpo_guard", "lab_arithmetic", "lab_safepath",
       "lab_safethink", "lab_prefix_search", "evaluate_lab")  # fmt: skip
SETTINGS = dict(settings.paths(RunSettings))


@pytest.fixture(scope="module", params=LAB)
def built(request, tmp_path_factory):
    """(config, its recipe's stages): building one is the preflight alone."""
    config = load(str(ROOT / "configs" / f"{request.param}.py")).unlock()
    workdir = epath.Path(tmp_path_factory.mktemp(request.param))
    return config, resolve(config.recipe)(config, workdir).stages, workdir


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict) and value and not key.endswith("args"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value is None or isinstance(value, str):
        return f"{value}x"
    return {**value, "x": 1} if isinstance(value, dict) else (*value, "x")


def definition(path):
    """The setting of a path, with the names that users choose taken out."""
    parts = path.split(".")
    return SETTINGS.get(path) or SETTINGS.get(".".join([parts[0], "NAME", *parts[2:]]))


def counts(config, stages_):
    """What each stage counts, as its recipe's scope says it."""
    scope = stages_[0].run.__closure__
    (own,) = [cell.cell_contents for cell in scope if isinstance(cell.cell_contents, Scope)]
    other = Scope(config, own.read_by)
    return {stage.name: other.counted(stage.name) for stage in stages_}, own.read_by


def test_each_setting_counts_unless_its_definition_says_that_it_cannot_matter(built):
    config, stages_, _ = built
    first, read_by = counts(config, stages_)
    for path, value in leaves(plain(config)):
        one = copy.deepcopy(config)
        section, _, name = path.rpartition(".")
        place = one
        for key in section.split(".") if section else ():
            place = place[key]
        place._fields[name] = changed(value)
        now, _ = counts(one, stages_)
        moved = [stage for stage in first if now[stage] != first[stage]]
        known = definition(path)
        prefixes = [path.rsplit(".", n)[0] for n in range(path.count(".") + 1)]
        readers = next((read_by[prefix] for prefix in prefixes if prefix in read_by), first)
        if known is not None and known.neutral:
            assert not moved, f"{path} is neutral ({known.neutral}) and changes {moved}"
        else:
            assert moved == [stage for stage in first if stage in readers], path


def test_the_model_counts_in_every_stage(built):
    """Its path does not: it may lie elsewhere."""
    _, stages_, _ = built
    by_name = {stage.name: stage for stage in stages_}

    def counts_it(stage):
        return "model" in stage.settings or any(counts_it(by_name[above]) for above in stage.depends)

    assert [stage.name for stage in stages_ if not counts_it(stage)] == []


def test_two_recipes_share_no_stage(tmp_path):
    """Of those on top of `recipes.learning` both learn and measure under the same names, by other rewards."""
    config = load(str(ROOT / "configs" / "lab_grpo_guard.py")).unlock()
    other = load(str(ROOT / "configs" / "lab_arithmetic.py")).unlock()
    config.update({"prompts": other.prompts, "answer": other.answer})
    found = []
    for path in (config.recipe, other.recipe):
        config.recipe = path
        made = resolve(path)(config, epath.Path(tmp_path)).stages
        found.append({planned.fingerprint for planned in stages.plan(made, epath.Path(tmp_path))})
    assert not found[0] & found[1]


def test_what_measures_counts_in_every_measurement(built):
    """The guard, its threshold and the compute type: two of them never meet in one report."""
    config, stages_, _ = built
    first, _ = counts(config, stages_)
    measured = [name for name in first if name in ("before", "offered", "after_sft", "after", "depth")]
    guard = "evaluate.guard" if "guard" in config.get("evaluate", {}) else "guard"
    for path in (f"{guard}.threshold", "model.dtype"):
        one = copy.deepcopy(config)
        place = one
        *sections, name = path.split(".")
        for key in sections:
            place = place[key]
        if name in place:
            place._fields[name] = changed(place[name])
            now, _ = counts(one, stages_)
            assert [stage for stage in measured if now[stage] == first[stage]] == [], path


def test_the_format_counts_and_the_version_does_not(built, monkeypatch):
    _, stages_, workdir = built
    before = [planned.fingerprint for planned in stages.plan(stages_, workdir)]
    monkeypatch.setattr("lrm_align.__version__", "99.0")
    assert [planned.fingerprint for planned in stages.plan(stages_, workdir)] == before
    monkeypatch.setattr(stages, "FORMAT", stages.FORMAT + 1)
    assert not {planned.fingerprint for planned in stages.plan(stages_, workdir)} & {*before}


@pytest.fixture
def config():
    return load(str(ROOT / "configs" / "quickstart.py")).unlock()


READ_BY = {"train": ("train",), "sample": ("sample",), "sample.slots": ("sample", "train"), "seed": ("sample",)}


def reading(config, stage, read, depends=()):
    scope = Scope(config, READ_BY)
    scope.stage("sample", lambda directory, inputs: {})
    made = scope.stage(stage, lambda directory, inputs: {"read": read(config)}, depends)
    return made.run(None, {})


READS = {
    "a section": lambda config: config.train.epochs,
    "a section in another way": lambda config: {**config.train}["epochs"] + 1,
    "a key, as a number": lambda config: config.seed + 1,
    "a key, as a condition": lambda config: 1 if config.seed else 2,
    "a key, as a text": lambda config: f"{config.seed}",
    "with a default": lambda config: config.get("seed", 0) == 0,
}


@pytest.mark.parametrize("name", READS)
def test_reading_what_does_not_count_is_a_fault(config, name):
    with pytest.raises(UndeclaredReadError, match=r"stage 'filter' reads config\.(train|seed)"):
        reading(config, "filter", READS[name])
    assert config.train.epochs == 3 and config.seed == 0, "what was hidden is there again"


def test_what_a_stage_before_it_counts_may_be_read(config):
    assert reading(config, "filter", lambda c: c.seed, ("sample",)) == {"read": 0}
    assert reading(config, "train", lambda c: c.sample.slots) == {"read": 128}


def test_people_are_shown_all_of_it(config):
    shown = plain(config)
    assert reading(config, "filter", whole) == {"read": shown}


def test_files_and_models_count_by_what_is_in_them(config, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("{}")
    config.prompts.args = {"sources": {"mine": {"path": str(path)}}}
    first = Scope(config, {}).counted("sample")
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "p.jsonl")
    config.prompts.args.sources.mine.path = str(moved)
    assert Scope(config, {}).counted("sample") == first
    moved.write_text('{"prompt": "a"}')
    assert Scope(config, {}).counted("sample") != first
