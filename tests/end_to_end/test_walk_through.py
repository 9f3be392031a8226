"""The README's walk-through runs as it is written."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text().partition("## Walk-through\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)

pytestmark = pytest.mark.slow


def run(kind: str, block: str, place: pathlib.Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", block] if kind == "sh" else [sys.executable, "-c", block]
    paths = {"PYTHONPATH": str(place), "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment = {**os.environ, **paths, "XLA_FLAGS": ""}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout without anything that was made there; after the commands."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("lrm_align", "configs"):
        (place / name).symlink_to(ROOT / name)
    for kind, block in BLOCKS:
        if kind == "sh":
            run(kind, block, place)
    return place


def rates(place, workdir):
    return json.loads((place / "runs" / workdir / "report.json").read_text())


def test_commands(place):
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "sh", "python"]
    for workdir in ("quickstart", "mine"):
        found = rates(place, workdir)
        assert found["before"]["attack_success_rate"] > 0.7 and found["after"]["attack_success_rate"] < 0.1
    before, after = (rates(place, name)["measured"] for name in ("evaluation_before", "evaluation"))
    assert before["plain_attack_success_rate"] > 0.7 and after["plain_attack_success_rate"] < 0.1
    assert after["arithmetic_accuracy"] > before["arithmetic_accuracy"] - 0.05
    (card,) = (place / "runs/mine").glob("export-*/model/README.md")
    assert "held_out" in card.read_text()
    for page in ("quickstart/report.html", "mine/report.html", "compared/report.html"):
        assert (place / "runs" / page).stat().st_size > 100_000


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "peft")), reason="no torch and peft to load with"
)
def test_others_load_the_export(place):
    kind, block = BLOCKS[-1]
    said = run(kind, block, place)
    merged, adapted = said.split("<|im_start|>user")[1:]
    assert "</think>" in merged and merged.partition("</think>")[2] == adapted.partition("</think>")[2]
    assert "41" in merged.partition("</think>")[2]
