"""Real models, which the repository does not carry: every folder below LRM_ALIGN_REAL_MODELS that holds one.

A test that takes `real_model` runs once for each, marked slow, and is skipped with the reason where there is none.
"""

import os
import pathlib

import pytest

VARIABLE = "LRM_ALIGN_REAL_MODELS"


def pytest_generate_tests(metafunc):
    if "real_model" not in metafunc.fixturenames:
        return
    root = os.environ.get(VARIABLE, "")
    found = sorted(path.parent for path in pathlib.Path(root).glob("*/config.json")) if root else []
    reason = f"{VARIABLE} is {root!r}; set it to a folder with one directory for each model"
    none = [pytest.param(None, marks=[pytest.mark.skip(reason=reason), pytest.mark.slow], id="none")]
    models = [pytest.param(path, marks=pytest.mark.slow, id=path.name) for path in found]
    metafunc.parametrize("real_model", models or none, scope="module")
