"""Every test runs on the CPU with eight devices, so that sharded code is exercised everywhere."""

import os
import pathlib
import signal

# A suite that was started in the background is deaf to Ctrl-C, and so are all processes that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
# The suite compiles many small programs and runs each a few times: code that is quick to make, not quick to run.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import hypothesis
import jax
import pytest

# An example that compiles something takes seconds; how long is no property of the code.
hypothesis.settings.register_profile("default_without_deadline", deadline=None)
hypothesis.settings.load_profile("default_without_deadline")

jax.config.update("jax_num_cpu_devices", 8)


# Neither tests nor documented examples: builders that tests share, and scripts that are run by hand.
collect_ignore = ["families.py", "object_store.py", "pair_batches.py", "tokenizer_families.py", "torch_reference.py"]
collect_ignore += ["bench", "golden", "hub_cache.py"]
collect_ignore_glob = ["*/tiny.py"]


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """Compiled programs are kept on disk for the session, and for all its workers: many tests run the same few."""
    if jax.config.jax_compilation_cache_dir is None:
        own = tmp_path_factory.getbasetemp()
        shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
        jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """A module's programs leave the memory with it: thousands of them take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real prompts, tokenizers and templates, which the repository does not carry; tests that need them skip."""
    root = pathlib.Path(os.environ.get("LRM_ALIGN_TEST_DATA", pathlib.Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no test data at {root}; set LRM_ALIGN_TEST_DATA to the folder that holds data/ and golden/")
    return root
