"""Noise damages matrices alone, the same way every time."""

import numpy as np
import pytest

from lrm_align.errors import UserError
from lrm_align.lab import weaken


@pytest.fixture(scope="module")
def params():
    """As those of a model: layers are stacked on axis 0, and have deviations of their own."""
    draw = np.random.default_rng(0).normal
    scales = np.array([1.0, 5.0], np.float32)[:, None, None, None]
    layers = {"q": draw(size=(2, 32, 4, 16)).astype(np.float32) * scales, "q_norm": np.ones((2, 16), np.float32)}
    return {"embed": draw(size=(64, 32)).astype(np.float32), "final_norm": np.ones(32, np.float32), "layers": layers}


def test_noise_is_relative_and_leaves_norms(params):
    weak = weaken.noise(0.25)(params)
    for layer in range(2):
        before, after = params["layers"]["q"][layer], np.asarray(weak["layers"]["q"][layer])
        assert np.std(after - before) / np.std(before) == pytest.approx(0.25, rel=0.1)
    assert np.array_equal(weak["layers"]["q_norm"], params["layers"]["q_norm"])
    assert np.array_equal(weak["final_norm"], params["final_norm"])


def test_noise_is_a_function_of_its_seed(params):
    one, again, other = (weaken.noise(0.1, seed)(params)["embed"] for seed in (3, 3, 4))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert np.array_equal(weaken.noise(0.0)(params)["embed"], params["embed"])


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(UserError, match="scale is"):
        weaken.noise(scale)
