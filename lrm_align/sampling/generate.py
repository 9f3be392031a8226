"""Resumable generation: requests to shards. Killed at any moment and started again, it ends with the same traces."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from lrm_align.progress import Progress
from lrm_align.sampling.engine import Engine
from lrm_align.sampling.request import Completion, Request
from lrm_align.traces import Shard, ShardWriter, Trace


def generate(
    engine: Engine,
    requests: Sequence[Request],
    directory: epath.PathLike,
    *,
    recipe_hash: str,
    policy: int = 0,
    flush_every: int = 256,
    title: str = "sampling",
    quiet: bool = False,
) -> list[Shard]:
    """Samples what is missing in a directory, and writes a shard after every `flush_every` finished traces.

    What is drawn for a sample depends on its request, the seed and the engine's shape alone, so that the set of traces
    is the same however often the run was interrupted. Only the order and the division into shards differ.

    Args:
      engine: the engine.
      requests: all that the directory shall hold in the end.
      directory: of the shards.
      recipe_hash: of everything that the traces depend on; shards of another are refused.
      policy: number of the policy that samples.
      flush_every: traces in a shard; at most these are lost to a kill.
      title: for the progress.
      quiet: no progress.

    Returns:
      All shards of the directory.

    Raises:
      UserError: before the first sample: a prompt that does not fit, a foreign or damaged shard, traces there that were
        not asked for.
    """
    requests = engine.check(requests)
    writer = ShardWriter(directory, recipe_hash, flush_every)
    missing = [_without(request, writer.done) for request in requests]
    missing = [request for request in missing if request.numbers]
    if not missing:
        return writer.shards
    total = sum(len(request.numbers) for request in requests)
    left = sum(len(request.numbers) for request in missing)
    with writer:
        if quiet:
            for completion in engine.run(missing):
                writer.add(to_trace(engine, completion, policy))
        else:
            with Progress(title, total, total - left) as progress:
                for completion in engine.run(missing, progress.tokens):
                    writer.add(to_trace(engine, completion, policy))
                    progress.add()
    return writer.shards


def to_trace(engine: Engine, completion: Completion, policy: int = 0) -> Trace:
    """The record of a completion."""
    request = completion.request
    sampling = {**dataclasses.asdict(request.params), "seed": engine.seed, "stop_ids": list(engine.stop_ids)}
    if request.intervention is not None:
        sampling["intervention"] = type(request.intervention).__name__
    return Trace(
        prompt_ids=np.asarray(request.prompt_ids),
        completion_ids=completion.ids,
        source=completion.source,
        sampler_logp=completion.sampler_logp,
        model_logp=completion.model_logp,
        sampling=sampling,
        policy=policy,
        prompt_id=request.prompt_id,
        group_id=request.group_id or request.prompt_id,
        sample=completion.sample,
        stop_reason=completion.stop_reason,
        tags=request.tags,
        meta={**request.meta, **({"intervention": completion.state} if completion.state else {})},
    )


def _without(request: Request, done: set[tuple[str, int]]) -> Request:
    numbers = tuple(number for number in request.numbers if (request.prompt_id, number) not in done)
    return dataclasses.replace(request, samples=numbers)
