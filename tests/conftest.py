"""Every test runs on the CPU with eight devices, so that sharded code is exercised everywhere."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import jax
import pytest

# An example that compiles something takes seconds; how long is no property of the code.
hypothesis.settings.register_profile("default_without_deadline", deadline=None)
hypothesis.settings.load_profile("default_without_deadline")

jax.config.update("jax_num_cpu_devices", 8)


# Neither tests nor documented examples: builders that tests share, and scripts that are run by hand.
collect_ignore = ["families.py", "tokenizer_families.py", "torch_reference.py", "bench", "golden"]
collect_ignore_glob = ["*/tiny.py"]


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real prompts, tokenizers and templates, which the repository does not carry; tests that need them skip."""
    root = pathlib.Path(os.environ.get("LRM_ALIGN_TEST_DATA", pathlib.Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no test data at {root}; set LRM_ALIGN_TEST_DATA to the folder that holds data/ and golden/")
    return root
