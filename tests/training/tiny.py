"""A model of a few thousand parameters and batches for it, for tests of training."""

from collections.abc import Iterator

import numpy as np

from lrm_align.batch import Batch
from lrm_align.models import Model, ModelConfig

CONFIG = ModelConfig(
    "qwen3", 64, 16, 32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, qk_norm=True, tied=True
)
MODEL = Model(CONFIG)


def batch(seed: int, rows: int = 4, length: int = 16) -> Batch:
    """Packed rows of two or three traces with tags; the end of each row is padding."""
    rng = np.random.default_rng(seed)
    segment_ids = np.zeros((rows, length), np.int32)
    positions = np.zeros((rows, length), np.int32)
    mask = np.zeros((rows, length), np.float32)
    for row in range(rows):
        at = 0
        for segment, size in enumerate(rng.integers(3, length // 3, rng.integers(2, 4)), 1):
            segment_ids[row, at : at + size] = segment
            positions[row, at : at + size] = np.arange(size)
            mask[row, at + 1 : at + size] = rng.integers(0, 2, size - 1)
            mask[row, at + size - 1] = 1
            at += size
    tokens = rng.integers(1, CONFIG.vocab_size, (rows, length)) * (segment_ids > 0)
    tags = rng.integers(0, 2, (rows, 3))
    return Batch(
        tokens.astype(np.int32),
        segment_ids,
        positions,
        mask,
        tag_BxS=tags.astype(np.int32),
        ref_logp_BxT=rng.normal(-3, 1, (rows, length)).astype(np.float32),
        tag_names=("harmful", "benign"),
    )


class Loader:
    """Random batches; batch t depends on t alone."""

    def __init__(self, num_steps: int, rows: int = 4):
        self._num_steps, self._rows = num_steps, rows

    def __len__(self) -> int:
        return self._num_steps

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return batch(step, self._rows)

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """The batches from a step on."""
        return map(self.batch, range(start, self._num_steps))
