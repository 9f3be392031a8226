"""Small random traces for the tests of this folder."""

from collections.abc import Callable

import numpy as np
import pytest

from lrm_align.provenance import Source
from lrm_align.traces import Trace


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    """make_trace(seed, prompt=…, completion=…, **fields): an injected token, then sampled ones."""

    def make(seed: int, prompt: int = 3, completion: int = 5, **fields: object) -> Trace:
        rng = np.random.default_rng(seed)
        source = np.full(completion, Source.SAMPLED, np.uint8)
        source[:1] = Source.INJECTED if completion > 1 else Source.SAMPLED
        logp = np.where(source == Source.SAMPLED, -rng.random(completion), np.nan).astype(np.float32)
        known = {"prompt_id": f"p{seed}", "group_id": f"g{seed}", "tags": ("harmful",), "sampling": {"top_p": 0.95}}
        return Trace(
            rng.integers(0, 100, prompt), rng.integers(0, 100, completion), source, logp, logp, **{**known, **fields}
        )

    return make
