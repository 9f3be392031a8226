"""Config files, presets, overrides, and the one-line mistakes."""

import pytest

from lrm_align import config as configs
from lrm_align.errors import UserError, command, one_line

FILE = """
import ml_collections
from lrm_align.config import choose
def get_config(preset="small"):
    width = choose(preset, {"small": 8, "large": 64})
    return ml_collections.ConfigDict({"width": width, "train": {"rate": 1e-3, "tags": ("a", "b"), "objective": "x:y"}})
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
    got = parsed(f"--config={file}:large", "--config.train.rate=3e-4", "--workdir=/w", "--stages=a,b", "--dry_run")
    assert (got.config.width, got.config.train.rate, got.name) == (64, 3e-4, "experiment:large")
    assert dict(got.options) == {"workdir": "/w", "dry_run": True, "stages": "a,b"}


def test_config_after_override_and_as_two_words(file):
    assert parsed("--config.train.rate=2.0", "--config", file).config.train.rate == 2.0


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "no config was given"),
        (("--config=nowhere.py",), "config file not found: nowhere.py"),
        (("--config={file}:lagre",), "did you mean :large?"),
        (("--config={file}", "--config.train.rat=1"), "did you mean --config.train.rate?"),
        (("--config={file}", "--config.train.rate=fast"), "could not convert string to float"),
        (("--config={file}", "--config.train=3"), "not a dict"),
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
