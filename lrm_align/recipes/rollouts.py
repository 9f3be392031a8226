"""The sample stage: prompts to requests, the engine, and trace shards."""

import dataclasses
from collections.abc import Iterable, Sequence

from etils import epath
from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.recipes import prompting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import Engine, EngineShape, Request, SamplingParams, generate
from lrm_align.sampling.interventions import Intervention
from lrm_align.settings import counted
from lrm_align.settings.sampling import SampleSettings
from lrm_align.traces import Trace, list_shards, read_shard

STEP = 256  # positions; ours


def requests(student: Student, asked: Sequence[tuple[Prompt, str]], settings: ConfigDict) -> list[Request]:
    """Prompts as the engine takes them; `meta["prompt"]` keeps the original, tags are label and sub-kind.

    Args:
      student: whose template renders them.
      asked: each prompt with the user's last turn that is sampled for it.
      settings: `config.sample`.

    Raises:
      UserError: no prompts, sampling parameters out of range, a prompt that leaves no room for an answer, or more
        memory than there is.
    """
    if not asked:
        raise UserError("there are no prompts to sample")
    params = SamplingParams(
        settings.temperature, settings.top_k, settings.top_p, settings.min_p, settings.max_new_tokens
    )
    context = min(settings.max_length, student.config.max_positions)
    turns = [(f"prompt {prompt.id!r}", prompt.said(text)) for prompt, text in asked]
    made = [
        Request(
            prompt.id,
            ids,
            samples=settings.samples,
            params=params,
            tags=(prompt.label, prompt.kind) if prompt.kind else (prompt.label,),
            meta=prompt.record(),
        )
        for (prompt, _), ids in zip(asked, prompting.rendered(student.chat, turns, context, room=1), strict=True)
    ]
    shape = fitted(engine_shape(settings), made)
    student.fits(shape.slots, shape.max_length)
    return made


def engine_shape(settings: ConfigDict, interventions: Iterable[Intervention | None] = ()) -> EngineShape:
    """The sizes of the engine that a config's settings and interventions ask for; one lane where they don't say."""
    shape = EngineShape(
        settings.slots,
        settings.max_length,
        steps_per_call=settings.steps_per_call,
        lanes=settings.get("lanes", 1),
    )
    for intervention in {id(one): one for one in interventions if one is not None}.values():
        shape = shape.serving(intervention)
    return shape


def fitted(shape: EngineShape, asked: Sequence[Request]) -> EngineShape:
    """Slots that are no longer than these requests can fill: the rest would be memory and time for nothing.

    In steps of `STEP`, so that one long prompt more or less rarely makes another shape; what an intervention puts in is
    not known, so that its slots stay as long as they may be.
    """
    if any(request.intervention is not None for request in asked):
        return shape
    longest = max((len(request.prompt_ids) + request.params.max_new_tokens for request in asked), default=1)
    return dataclasses.replace(shape, max_length=min(shape.max_length, -(-longest // STEP) * STEP))


def run(
    directory: epath.Path,
    student: Student,
    asked: Sequence[Request],
    settings: ConfigDict,
    seed: int,
    title: str = "sampling",
) -> Summary:
    """Samples everything that is not in the directory's shards yet; `title` stands before the progress."""
    identity = digest([student.identity, counted(settings, SampleSettings), seed])
    single = student.mesh.size == 1
    engine = Engine(
        student.model,
        student.params,
        fitted(engine_shape(settings, (request.intervention for request in asked)), asked),
        stop_ids=student.chat.stop_ids,
        seed=seed,
        mesh=None if single else student.mesh,
    )
    flush_every = settings.shard_traces
    shards = generate(engine, asked, directory, recipe_hash=identity, flush_every=flush_every, title=title)
    return {"traces": sum(shard.manifest.count for shard in shards)}


def by_prompt(directory: epath.Path) -> dict[str, Trace]:
    """The traces of a directory by prompt, where there is one sample of each."""
    return {trace.prompt_id: trace for shard in list_shards(directory) for trace in read_shard(shard)}
