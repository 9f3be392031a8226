"""A tiny model and small engines that the tests of sampling share."""

import functools

import numpy as np

from lrm_align.sampling import Completion, Engine, EngineShape, Request, SamplingParams
from tests import families

SHAPE = EngineShape(slots=4, max_length=40, prompt_buckets=(8, 16), steps_per_call=6, prefill_rows=2, refill_at=1)
STOPS = (3, 5)
PARAMS = SamplingParams(max_new_tokens=12)


@functools.cache
def tiny():
    """One model for the session, so that its programs compile once."""
    return families.tiny("qwen3")


def engine(shape: EngineShape = SHAPE, stop_ids=STOPS, **options) -> Engine:
    """An engine over the tiny model."""
    model, params = tiny()
    return Engine(model, params, shape, stop_ids=stop_ids, **options)


def requests(count: int, samples: int = 1, params: SamplingParams = PARAMS, seed: int = 0, **options) -> list[Request]:
    """Prompts of 1 to 15 random tokens."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(6, 48, rng.integers(1, 16)) for _ in range(count)]
    return [Request(f"prompt {i}", ids, samples, params, **options) for i, ids in enumerate(prompts)]


def run(engine: Engine, asked: list[Request]) -> dict[tuple[str, int], Completion]:
    """All completions by prompt and sample."""
    found = {(c.request.prompt_id, c.sample): c for c in engine.run(asked)}
    assert len(found) == sum(len(request.numbers) for request in asked)
    return found


def assert_bitwise(one: Completion, other: Completion) -> None:
    """Equal tokens, sources, log-probabilities and reasons."""
    assert one.stop_reason == other.stop_reason
    for name in ("ids", "source", "sampler_logp", "model_logp"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
