"""A real trained Llama, loaded from its Hugging Face directory, against what transformers computed from it."""

import numpy as np
import pytest

from lrm_align import models
from tests.families import greedy, logits


@pytest.fixture(scope="module")
def stories(shared_data):
    folder = shared_data / "data" / "tiny_llama_stories260k"
    return folder, np.load(folder / "golden.npz")


def test_logits(stories):
    folder, golden = stories
    model, params = models.load(folder / "hf")
    np.testing.assert_allclose(logits(model, params, golden["input_ids"]), golden["logits"], atol=1e-4)


def test_greedy_continuation(stories):
    folder, golden = stories
    model, params = models.load(folder / "hf")
    prompt = golden["input_ids"][0]
    steps = golden["greedy"].shape[1] - len(prompt)
    assert steps == 80
    np.testing.assert_array_equal(greedy(model, params, prompt, steps), golden["greedy"][0])


def test_export_is_the_same_model_with_everything_beside_it(stories, tmp_path):
    folder, _ = stories
    model, params = models.load(folder / "hf")
    models.save(tmp_path / "out", model, params, source=folder / "hf")
    for file in (folder / "hf").iterdir():
        if file.suffix != ".safetensors":
            assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name
