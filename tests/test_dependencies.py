"""Every dependency is bounded below, and every import is a dependency."""

import ast
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
# Distribution names that are not their import's name.
IMPORTS = {"absl-py": "absl", "orbax-checkpoint": "orbax", "etils": "etils"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_dependency_is_bounded_below():
    extras = project()["optional-dependencies"]
    for line in [*project()["dependencies"], *(line for lines in extras.values() for line in lines)]:
        assert ">=" in line, line


def test_imports_and_dependencies_are_the_same():
    names = [re.split(r"[\[>]", line)[0] for line in project()["dependencies"]]
    declared = {IMPORTS.get(name, name.replace("-", "_")) for name in names}
    imported = set()
    for path in (ROOT / "lrm_align").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                imported.add(node.module.split(".")[0])
    optional = {"wandb"}
    assert imported - set(sys.stdlib_module_names) - {"lrm_align"} - optional == declared


def test_the_lock_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "file:" not in lock and "--" not in lock
