"""What every command says of itself."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from lrm_align import evaluate, main, merge, report, sample, serve
from lrm_align.lab import pretrain
from lrm_align.traces import __main__ as traces

COMMANDS = {
    "lrm_align.main": main.main,
    "lrm_align.sample": sample.main,
    "lrm_align.evaluate": evaluate.main,
    "lrm_align.serve": serve.main,
    "lrm_align.report": report.main,
    "lrm_align.merge": merge.main,
    "lrm_align.lab.pretrain": pretrain.main,
}


def text(name, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        traces.main(["--help"]) if name == "lrm_align.traces" else COMMANDS[name]([name, "--help"])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [*COMMANDS, "lrm_align.traces"])
def test_help_is_short_complete_and_has_examples(name, capsys):
    said = text(name, capsys)
    assert said.startswith(f"usage: python -m {name} ")
    lines = said.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 120
    examples = said.partition("examples:\n")[2].replace("\\\n", " ")
    assert examples.strip()
    known = set(re.findall(r"--(\w+)", said.partition("examples:")[0]))
    for example in examples.splitlines():
        words = shlex.split(example)
        assert words[:3] == ["python", "-m", name]
        flags = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        assert {flag.partition(".")[0] for flag in flags} <= known


def test_a_mistake_points_to_the_help(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lrm_align.lab.pretrain", "--directroy=x"],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "see python -m lrm_align.lab.pretrain --help" in done.stderr
