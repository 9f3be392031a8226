"""The perplexity of trace sets under the model of a run: `config.perplexity`."""

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align.errors import UserError
from lrm_align.evals import perplexity as perplexities
from lrm_align.recipes import rewriting
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import TokenStore, Trace, find_shards, read_shard
from lrm_align.training import reference


def check(settings: ConfigDict) -> None:
    """Looks whether the trace sets are there, and span and context exist.

    Raises:
      UserError: they do not.
    """
    perplexities.check(settings.span, settings.context)
    for path in settings.sets.values():
        find_shards(path)


def identity(path: epath.PathLike) -> list[str]:
    """What tells a trace set from another: the checksums of its shards."""
    return sorted(shard.manifest.sha256 for shard in find_shards(path))


def run(path: epath.PathLike, student: Student, settings: ConfigDict) -> Summary:
    """The perplexity of the traces of a directory.

    With the context "prompt" each completion is scored after the plain prompt that `meta["prompt"]` holds, in the
    model's own template; with "stored" after the prompt ids that the trace has, steering included.

    Args:
      path: of the shards.
      student: the frozen model.
      settings: `config.perplexity`: `span`, `context`, `row_length`, `rows`, `chunk`.

    Raises:
      UserError: ids that the model does not know, no prompt in `meta` where it is wanted, nothing in the span.
    """
    traces = [_under(trace, student, settings.context) for shard in find_shards(path) for trace in read_shard(shard)]
    largest = max(int(trace.ids.max(initial=0)) for trace in traces)
    if largest >= student.config.vocab_size:
        raise UserError(
            f"{path}: holds token id {largest}, but {student.path} knows {student.config.vocab_size}; these are "
            "traces of another tokenizer"
        )
    limit = min(settings.row_length, student.config.max_positions)
    fitting = [trace for trace in traces if trace.length <= limit]
    if not fitting:
        raise UserError(f"{path}: all of {len(traces)} traces are longer than {limit} tokens; raise row_length")
    store = TokenStore.from_traces(fitting)
    logp = reference.logp(
        student.model,
        student.params,
        store,
        student.mesh,
        row_length=limit,
        rows=settings.rows,
        chunk=settings.chunk,
        title="  perplexity",
    )
    losses, tokens = [], []
    for trace, begin in zip(fitting, store.offsets[:-1].tolist(), strict=True):
        mask = perplexities.span_mask(trace, settings.span, student.chat.thought_size(trace.completion_ids.tolist()))
        mask[0] = False  # nothing stands before it
        losses.append(float(-np.sum(logp[begin : begin + trace.length][mask], dtype=np.float64)))
        tokens.append(int(mask.sum()))
    found = perplexities.perplexity(losses, tokens)
    return {**found, "too_long": len(traces) - len(fitting), "span": settings.span, "context": settings.context}


def _under(trace: Trace, student: Student, context: str) -> Trace:
    if context == "stored":
        return trace
    if not isinstance(trace.meta.get("prompt"), str):
        raise UserError(f"trace {trace.prompt_id!r} has no meta['prompt']; use context = 'stored'")
    return rewriting.unsteered(trace, student.chat)
