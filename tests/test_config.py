"""Config files, presets, overrides, and the one-line mistakes."""

import contextlib
import io
import pathlib

import pytest

from lrm_align import config as configs
from lrm_align import main, sample
from lrm_align.errors import UserError, command, one_line

ROOT = pathlib.Path(__file__).parents[1]
FILE = """
import ml_collections
from lrm_align.config import choose
def get_config(preset="small"):
    width = choose(preset, {"small": 8, "large": 64})
    return ml_collections.ConfigDict({"width": width, "study": {"rate": 1e-3, "tags": ("a", "b"), "objective": "x:y"}})
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(FILE)
    return str(path)


def parsed(*arguments):
    flags = {"--workdir=DIR": "where", "--stages=NAME,…": "which", "--dry_run": "only look"}
    return configs.parse(["command", *arguments], configs.Usage("command", "Does it.", flags, ("command --dry_run",)))


def test_overrides_and_preset(file):
    got = parsed(f"--config={file}:large", "--config.study.rate=3e-4", "--workdir=/w", "--stages=a,b", "--dry_run")
    assert (got.config.width, got.config.study.rate, got.name) == (64, 3e-4, "experiment:large")
    assert dict(got.options) == {"workdir": "/w", "dry_run": True, "stages": "a,b"}


def test_a_home_directory_is_meant_in_every_directory(file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parsed(f"--config={file}", "--workdir=~/run", "--stages=~a").options["workdir"] == str(tmp_path / "run")
    assert parsed(f"--config={file}", "--workdir=gs://bucket/~/run").options["workdir"] == "gs://bucket/~/run"
    assert parsed("--config=~/experiment.py", "--stages=~a").options["stages"] == "~a"


def test_config_after_override_and_as_two_words(file):
    assert parsed("--config.study.rate=2.0", "--config", file).config.study.rate == 2.0


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "no config was given"),
        (("--config=nowhere.py",), "config file not found: nowhere.py"),
        (("--config={file}:lagre",), "did you mean :large?"),
        (("--config={file}", "--config.study.rat=1"), "did you mean --config.study.rate?"),
        (("--config={file}", "--config.study.rate=fast"), "could not convert string to float"),
        (("--config={file}", "--config.study=3"), "not a dict"),
        (("--config={file}", "--workdir", "--dry_run"), "--workdir takes a text and is given '--dry_run'"),
        (("--config={file}", "--wrkdir=/w"), "Did you mean: workdir"),
        (("--config={file}", "more"), "unexpected argument 'more'; see command --help"),
    ],
)
def test_mistakes(file, arguments, says):
    with pytest.raises(UserError, match=says.replace("?", "\\?")):
        parsed(*(argument.format(file=file) for argument in arguments))


def test_near_file_is_suggested(file):
    with pytest.raises(UserError, match=r"there is .*experiment.py"):
        parsed(f"--config={file.replace('experiment', 'experimnt')}")


@pytest.mark.parametrize("path, says", [("math.sqrt", "form"), ("nosuch:x", "nosuch"), ("math:sqrtt", "math:sqrt")])
def test_import_paths(path, says):
    with pytest.raises(UserError, match=says):
        configs.resolve(path)


def test_digest_does_not_depend_on_order_or_container():
    assert configs.digest({"a": [1, 2], "b": 2.0}) == configs.digest({"b": 2.0, "a": (1, 2)})
    assert configs.digest({"a": 1}) != configs.digest({"a": 2})


def test_command_ends_with_status_2_and_one_line(capsys):
    @command
    def fails():
        raise UserError("no such\n  file")

    with pytest.raises(SystemExit) as exit_:
        fails()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: no such file\n"


def test_internal_faults_keep_their_traceback():
    @command
    def fails():
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        fails()
    assert one_line(" a\tb\n\nc ") == "a b c"


@pytest.mark.parametrize("section", ["lora", "sample", "train", "evaluate"])
def test_what_a_recipe_reads_and_a_config_lacks_is_named(tmp_path, section):
    file = tmp_path / "own.py"
    file.write_text(
        "from lrm_align.config import load\n\ndef get_config():\n"
        f"    config = load({str(ROOT / 'configs' / 'quickstart.py')!r}).unlock()\n"
        f"    del config.{section}\n    return config\n"
    )
    with pytest.raises(SystemExit) as end, contextlib.redirect_stderr(io.StringIO()) as said:
        main.main(["main", f"--config={file}", "--dry_run"])
    assert end.value.code == 2 and f"the config has no key {section!r}, which its recipe reads at" in said.getvalue()


@pytest.mark.parametrize("command", [main.main, sample.main])
def test_a_config_of_another_command_is_named_as_such(command, capsys):
    with pytest.raises(SystemExit) as end:
        command(["main", f"--config={ROOT / 'configs' / 'evaluate_lab.py'}", "--dry_run"])
    assert end.value.code == 2
    assert "evaluate_lab is an evaluation: run it by python -m lrm_align.evaluate" in capsys.readouterr().err
