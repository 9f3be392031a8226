"""Imports point one way: commands → recipes → runtimes → pure pieces → models."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "lrm_align"
# A folder may import those of a lower rank and itself; everyone may import the leaves.
RANK = {
    "lab": 6,
    "recipes": 5,
    "serving": 5,
    "rl": 4,
    "defences": 4,
    "judging": 4,
    "pages": 4,
    "sampling": 3,
    "training": 3,
    "evals": 3,
    "data": 3,
    "scoring": 2,
    "rewards": 2,
    "advantages": 2,
    "objectives": 2,
    "traces": 2,
    "chat": 2,
    "rendering": 1,
    "models": 1,
}
LEAVES = {
    *("errors", "batch", "provenance", "config", "plain", "factory", "settings", "progress", "arguments"),
    *("atomic_files", "json_lines", "untrusted", "limits", "stamps", "processes", "stopping"),
}
# Within a rank: a guard reads chats, and that is all.
SIDEWAYS = {("scoring", "chat")}
PURE = {"objectives", "advantages", "rewards"}


def imports(path: pathlib.Path) -> set[str]:
    """The parts of lrm_align that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "lrm_align" else [f"lrm_align.{a.name}" for a in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lrm_align.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    part = path.relative_to(ROOT).parts[0]
    if part not in RANK or path.name == "__main__.py":
        return  # commands and leaves
    for other in imports(path) - LEAVES - {part}:
        assert other in RANK, f"{part} imports the command {other}"
        assert RANK[other] < RANK[part] or (part, other) in SIDEWAYS, f"{part} imports {other}"
        assert part not in PURE, f"{part} is pure and imports {other}"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_leaves(leaf):
    place = ROOT / leaf
    for path in place.glob("*.py") if place.is_dir() else [ROOT / f"{leaf}.py"]:
        assert imports(path) <= LEAVES
