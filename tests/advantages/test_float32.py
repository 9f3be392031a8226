"""Advantages in float32 are those in float64, however large rewards are and whatever they have in common."""

import jax
import numpy as np
import pytest

from lrm_align import advantages
from lrm_align.advantages import Group

G, N = 32, 8
CREDITS = {
    "grpo": advantages.grpo(),
    "grpo, batch": advantages.grpo("batch"),
    "dr_grpo": advantages.dr_grpo(),
    "rloo": advantages.rloo(),
    "gdpo": advantages.gdpo(),
    "ifpo": advantages.ifpo("b"),
    "ifpo, batch": advantages.ifpo("b", scope="batch"),
    "ifpo, balanced": advantages.ifpo("b", baseline="balanced"),
    "ifpo, within": advantages.ifpo("b", baseline="within", recentre=True, limit=5.0),
    "batch_center": advantages.batch_center(),
    "mode_balanced_center": advantages.mode_balanced_center(),
}


def group(dtype: type, offset: float, size: float) -> Group:
    """Float32 numbers, some unscored, some groups without spread."""
    rng = np.random.default_rng(0)
    reward = np.float32(offset + size * rng.normal(size=(G, N)))
    reward[::5] = reward[::5, :1]
    parts = np.stack([reward, np.float32(size * rng.normal(size=(G, N)) - offset)], axis=-1)
    valid = (rng.random((G, N)) < 0.9).astype(dtype)
    modes = rng.integers(-1, 2, (G, N)).astype(np.int32)
    names = ("a", "b")
    return Group(reward.astype(dtype), valid, parts.astype(dtype), mode_GxN=modes, mode_names=names)


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("size", [1e-3, 1e25])
@pytest.mark.parametrize("offset", [0.0, 100.0, -1e6])
def test_float32_is_enough(credit, size, offset):
    narrow = group(np.float32, offset, size)
    found = np.asarray(CREDITS[credit](narrow.reward_GxN, narrow))
    with jax.enable_x64(True):
        wide = group(np.float64, offset, size)
        wanted = np.asarray(CREDITS[credit](wide.reward_GxN, wide))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
