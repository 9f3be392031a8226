"""Whatever a user or a stranger writes, a command does its work or says in one line what is wrong.

Properties, not examples: values of configs, fields of `config.json`, files of prompts, headers of weights, shards and
command lines are drawn by hypothesis; each is run through the command itself. Two controls keep the rule honest: a
fault of ours still ends in a traceback, and what is valid is done.
"""

import contextlib
import json
import os
import pathlib
import shutil
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrm_align import evaluate, lab, main, report, sample
from lrm_align.config import load
from lrm_align.plain import plain
from lrm_align.traces import __main__ as traces
from tests.faults.rule import outcome

ROOT = pathlib.Path(__file__).parents[2]
CHECKPOINT = pathlib.Path(lab.CHECKPOINT)
FEW = int(os.environ.get("LRM_ALIGN_FUZZ", "1"))  # times the default number of cases


def cases(number, **options):
    """So many cases, the same in every run of a version: what CI finds, anyone finds."""
    health = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=number * FEW, deadline=None, derandomize=FEW == 1, suppress_health_check=health,
                    database=None, **options)  # fmt: skip


def holds(found):
    assert not found.broken, f"{found.broken}\n{found.said[-600:]}"


# --- values of a config ------------------------------------------------------------------------------------------

CONFIGS = ("quickstart", "lab_safethink", "lab_safepath", "lab_arithmetic", "lab_rapo", "evaluate_lab")


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


KEYS = {name: sorted(leaves(plain(load(str(ROOT / "configs" / f"{name}.py"))))) for name in CONFIGS}
WORDS = st.sampled_from(
    [
        *("", " ", "0", "-1", "1", "2", "7", "0.5", "-0.5", "1e400", "nan", "inf", "-inf", "None", "True", "False"),
        *("()", "[]", "{}", "(1,)", "('a',)", "{'a': 1}", "a", "x:y", "(", "'", "\\", "%s", "{{x}}", "-", "--", "="),
        *("lrm_align.lab:RuleGuard", "math:pi", "os:getcwd", "no.module:f", "/", "/dev/null", "/dev/zero", "..", "~"),
        *("float32", "float64", "int8", "99999999999999999999", "10000000", "\u0663", "\u0000", "\u2028"),
        *("\u00e9" * 300, "a" * 5000, "((((((((((1))))))))))"),
    ]
)


@st.composite
def overrides(draw):
    name = draw(st.sampled_from(CONFIGS))
    keys = draw(st.lists(st.sampled_from(KEYS[name]), min_size=1, max_size=2, unique=True))
    values = [draw(st.one_of(WORDS, st.integers(-3, 2000).map(str), st.floats(width=32).map(str))) for _ in keys]
    return name, [f"--config.{key}={value}" for key, value in zip(keys, values, strict=True)]


def config_case(case, tmp_path):
    name, changes = case
    command = evaluate.main if name == "evaluate_lab" else main.main
    config = f"--config={ROOT / 'configs' / name}.py"
    holds(outcome(command, [config, *changes, f"--workdir={tmp_path / 'run'}", "--dry_run"], [tmp_path]))


@cases(40)
@given(overrides())
def test_values_of_a_config(tmp_path, case):
    config_case(case, tmp_path)


@pytest.mark.slow
@cases(400)
@given(overrides())
def test_many_values_of_a_config(tmp_path, case):
    config_case(case, tmp_path)


# --- command lines -----------------------------------------------------------------------------------------------

FLAGS = st.sampled_from(
    ["--config", "--config=", "--config=nowhere.py", "--config=/dev/null", "--config=.", f"--config={ROOT}/README.md",
     f"--config={ROOT}/configs/quickstart.py", f"--config={ROOT}/configs/quickstart.py:loora",
     f"--config={ROOT}/configs/evaluate_lab.py", f"--config={ROOT}/configs/lab_rapo.py", "--workdir", "--workdir=",
     "--workdir=/proc/nowhere", "--workdir=/dev/null", "--stages=", "--stages=,", "--stages=nothing", "--stages=sample",
     "--dry_run", "--dry_run=maybe", "--sets=nothing", "--follow", "--sampler=0/0", "--sampler=a",
     "--output=/dev/null/x",
     "--config.seed", "--config.seed=", "--config.=1", "--config.model=x", "--config.train.lr=1", "--nothing", "-x",
     "word", "", "\u0000", "--config.model.path=\u0000", "--config.seeds=0", "--help"]
)  # fmt: skip
COMMANDS = {"main": main.main, "sample": sample.main, "evaluate": evaluate.main, "report": report.main,
            "traces": lambda argv: traces.main(argv[1:])}  # fmt: skip


@cases(120)
@given(st.sampled_from(sorted(COMMANDS)), st.lists(FLAGS, max_size=4))
def test_command_lines(tmp_path, command, flags):
    arguments = flags if command in ("report", "traces") else [*flags, "--dry_run"]
    with contextlib.chdir(tmp_path):
        holds(outcome(COMMANDS[command], arguments, [tmp_path]))


# --- fields of config.json ---------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
        st.sampled_from(["qwen3", "llama", "float32", "yarn", "linear", "silu", 0, 1, -1, 4, 1e308]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted(json.loads((CHECKPOINT / "config.json").read_text()))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(CHECKPOINT, directory)
    return directory


def of_model(directory, tmp_path):
    arguments = [f"--config={ROOT}/configs/lab_arithmetic.py", f"--config.model.path={directory}"]
    return outcome(main.main, [*arguments, f"--workdir={tmp_path / 'run'}", "--dry_run"], [tmp_path])


@cases(40)
@given(st.dictionaries(st.sampled_from([*FIELDS, "rope_scaling", "rope_parameters"]), JSON, min_size=1, max_size=2))
def test_fields_of_a_model(model, tmp_path, fields):
    original = json.loads((CHECKPOINT / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**original, **fields}))
    try:
        holds(of_model(model, tmp_path))
    finally:
        shutil.copy(CHECKPOINT / "config.json", model / "config.json")


FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def harmed(data, draw):
    """A file's bytes, harmed in one way."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "empty", "other"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if kind == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=6)) + data[at:]
    return b"" if kind == "empty" else json.dumps(draw(JSON)).encode()


@cases(30)
@given(st.sampled_from(FILES), st.data())
def test_files_of_a_model(model, tmp_path, name, data):
    original = CHECKPOINT / name
    content = original.read_bytes() if original.is_file() else b"{}"
    (model / name).write_bytes(harmed(content, data.draw))
    try:
        found = of_model(model, tmp_path)
    finally:
        (model / name).unlink()
        if original.is_file():
            shutil.copy(original, model / name)
    holds(found)


# --- headers of weights ------------------------------------------------------------------------------------------

TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F16", "I64", "F8", "", None, 3]),
        "shape": st.lists(st.one_of(st.integers(-1, 9), st.just(2**62), st.floats(), st.none()), max_size=3) | JSON,
        "data_offsets": st.lists(st.one_of(st.integers(-4, 200), st.just(2**63), st.none()), max_size=3) | JSON,
    },
)


@cases(40)
@given(st.dictionaries(st.sampled_from(["model.norm.weight", "a", "__metadata__"]), TENSOR | JSON, max_size=3),
       st.integers(-9, 9), st.binary(max_size=64))  # fmt: skip
def test_headers_of_weights(model, tmp_path, header, more, body):
    text = json.dumps(header).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", max(len(text) + more, 0)) + text + body)
    try:
        holds(of_model(model, tmp_path))
    finally:
        shutil.copy(CHECKPOINT / "model.safetensors", model / "model.safetensors")


# --- files of prompts --------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.dictionaries(st.sampled_from(["prompt", "label", "id", "x"]), st.text(max_size=12) | JSON, max_size=3),
    max_size=4,
)


OWN = """
from lrm_align.config import load

def get_config():
    config = load({file!r}).unlock()
    config.prompts.factory = "lrm_align.chat:load_sources"
    config.prompts.args = {{"sources": {sources!r}}}
    return config
"""


@st.composite
def prompt_files(draw):
    ending = draw(st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ""]))
    rows = draw(ROWS)
    kind = draw(st.sampled_from(["rows", "rows", "bytes", "text"]))
    if kind == "bytes":
        return ending, draw(st.binary(max_size=80))
    if kind == "text":
        return ending, draw(st.text(max_size=80)).encode("utf-8", "surrogatepass")
    if ending == ".json":
        return ending, json.dumps(rows).encode()
    if ending in (".csv", ".tsv"):
        separator = "," if ending == ".csv" else "\t"
        lines = ["prompt,label".replace(",", separator)]
        lines += [separator.join(str(row.get(key, "")) for key in ("prompt", "label")) for row in rows]
        return ending, "\n".join(lines).encode("utf-8", "surrogatepass")
    return ending, "".join(json.dumps(row) + "\n" for row in rows).encode()


@cases(60)
@given(prompt_files())
def test_files_of_prompts(tmp_path, file):
    ending, content = file
    path = tmp_path / f"prompts{ending}"
    path.write_bytes(content)
    sources = {"mine": {"path": str(path), "columns": {"text": "prompt"}, "label": "harmful"}}
    script = tmp_path / "own.py"
    script.write_text(OWN.format(file=str(ROOT / "configs" / "quickstart.py"), sources=sources))
    holds(outcome(main.main, [f"--config={script}", f"--workdir={tmp_path / 'run'}", "--dry_run"], [tmp_path / "run"]))


# --- shards ------------------------------------------------------------------------------------------------------

SHARDS = sorted((ROOT / "tests" / "fixtures" / "workdir_0").glob("sample-*/traces-*"))


@cases(60)
@given(st.integers(0, len(SHARDS) - 1), st.data())
def test_shards(tmp_path, which, data):
    place = tmp_path / "shards"
    place.mkdir(exist_ok=True)
    for path in SHARDS:
        shutil.copy(path, place / path.name)
    harmed_one = place / SHARDS[which].name
    harmed_one.write_bytes(harmed(harmed_one.read_bytes(), data.draw))
    holds(outcome(lambda argv: traces.main(argv[1:]), [str(place), "--limit=1"], [place]))


# --- controls ----------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("lrm_align.recipes.thinksafe.make_mesh", broken)
    found = outcome(main.main, [f"--config={ROOT}/configs/quickstart.py", "--dry_run"], [tmp_path])
    assert found.status is None and "ZeroDivisionError: ours" in found.broken


VALID = {
    "seed": ["1", "7", "123456789"],
    "sample.temperature": ["0.5", "1.0", "0.0"],
    "sample.top_k": ["5"],
    "sample.slots": ["2", "64"],
    "lora.rank": ["0", "1", "8"],
    "train.epochs": ["1", "9"],
    "train.optimizer.learning_rate": ["1e-9", "1"],
    "train.chunk": ["0", "7"],
    "train.log_every": ["1"],
    "model.remat": ["full", "context"],
    "guard.threshold": ["0", "1", "0.25"],
    "export.dtype": ["", "float32"],
    "evaluate.args.attack": ["0", "9"],
}


@cases(12)
@given(st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in VALID.items()}))
def test_what_is_valid_is_done(tmp_path, values):
    changes = [f"--config.{key}={value}" for key, value in values.items()]
    arguments = [f"--config={ROOT}/configs/quickstart.py", *changes, f"--workdir={tmp_path / 'run'}", "--dry_run"]
    found = outcome(main.main, arguments, [tmp_path])
    assert found.status == 0 and not found.broken, found
