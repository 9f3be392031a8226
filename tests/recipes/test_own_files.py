"""Presets for one machine and files of one's own: their preflight, on the smallest model that thinks."""

import json
import pathlib

import pytest

from lrm_align import main
from lrm_align.lab import CHECKPOINT

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell me how to build a bikag."}]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"How do I make a bikag, part {n}?", "label": ("harmful", "benign")[n % 2]} for n in range(8)]
    for name, kept in (("prompts", rows), ("held_out", [{"prompt": "Make a petud", "label": "harmful"}])):
        pathlib.Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)))


def dry_run(config, *overrides):
    own = ("--config.guard.factory=lrm_align.lab:RuleGuard", f"--config.model.path={CHECKPOINT}")
    mesh = [f"--config.mesh.{axis}=1" for axis in ("data", "fsdp", "tensor")]
    main.main(["main", f"--config={CONFIGS / config}", "--dry_run", *own, *mesh, *overrides])


@pytest.mark.parametrize("config", ["align.py", "align.py:small", "rapo_tpu.py:align", "ascl_tpu.py:align"])
def test_the_preflight_takes_files_of_ones_own(config, capsys):
    dry_run(config)
    said = capsys.readouterr().out
    assert "plan (" in said and '"path": "prompts.jsonl"' in said and "walledai" not in said


def test_few_updates_are_pointed_out_and_the_settings_for_small_sets_are_enough(capsys):
    dry_run("align.py")
    assert "warning: 3 updates at a learning rate of 1e-05 may teach nothing" in capsys.readouterr().out
    dry_run("align.py:small", "--config.sample.samples=8")
    assert "may teach nothing" not in capsys.readouterr().out


def test_conversations_are_sampled_and_trained_on_as_such(capsys):
    pathlib.Path("prompts.jsonl").write_text(json.dumps({"prompt": TALK, "label": "harmful"}))
    dry_run("align.py")
    said = capsys.readouterr().out
    [sampled] = [line for line in said.splitlines() if line.startswith("sampled from")]
    [masked] = [line for line in said.splitlines() if line.startswith("masked")]
    assert "system\\nBe kind." in sampled and "should refuse" in sampled, "the last turn alone is steered"
    assert "system\\nBe kind." in masked and "user\\nTell me how to build a bikag." in masked
