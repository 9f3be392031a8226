"""What runs on real models share: their data, made or read in place, and a run of a config."""

import csv
import json
import os
import pathlib

from lrm_align import main

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SHARED = pathlib.Path(os.environ.get("LRM_ALIGN_TEST_DATA", ROOT.parent / "shared")) / "data"


def small(real_model: pathlib.Path) -> bool:
    """Whether a machine without an accelerator trains it in minutes."""
    return sum(path.stat().st_size for path in real_model.glob("*.safetensors")) < 1e9


def write(path: pathlib.Path, rows: list[dict]) -> str:
    """The rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def xstest(count: int, label: str) -> list[str]:
    """Prompts of XSTest, "safe" or "unsafe"; none where it is not at hand."""
    path = SHARED / "xstest" / "xstest_prompts.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file) if row["label"] == label][:count]


def run(config: str, workdir: pathlib.Path, model: pathlib.Path, **overrides) -> dict:
    """The report of a run; overrides by key, dots as two underscores."""
    overrides = {"mesh__data": 1, "mesh__fsdp": 1, "mesh__tensor": 1, **overrides}
    flags = [f"--config.{key.replace('__', '.')}={value}" for key, value in overrides.items()]
    main.main(["main", f"--config={CONFIGS / config}", f"--config.model.path={model}", f"--workdir={workdir}", *flags])
    return json.loads((workdir / "report.json").read_text())


def finished(workdir: pathlib.Path, stage: str) -> tuple[pathlib.Path, dict]:
    """The directory of a finished stage and its summary."""
    [directory] = [path.parent for path in workdir.glob(f"{stage}-*/finished.json")]
    return directory, json.loads((directory / "finished.json").read_text())["summary"]
