"""Perplexity of a set of traces under a frozen model: how far data is from what a model would say itself.

exp(-Σ log p(token) / tokens) over a span of each trace (Lee et al. 2026, arXiv 2601.23143, section 5.5, which names
neither span nor context: both are explicit here).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.traces import Trace

SPANS = ("completion", "sampled", "thought", "answer", "all")
CONTEXTS = ("stored", "prompt")


def check(span: str, context: str) -> None:
    """Refuses what is no span or context.

    Raises:
      UserError: naming those there are.
    """
    if span not in SPANS:
        raise UserError(f"perplexity: span {span!r}; expected one of {', '.join(SPANS)}")
    if context not in CONTEXTS:
        raise UserError(f"perplexity: context {context!r}; expected one of {', '.join(CONTEXTS)}")


def span_mask(trace: Trace, span: str, thought: int) -> np.ndarray:
    """(P + C,) bool: the tokens of a trace that are counted.

    "completion" is all that follows the prompt; "sampled" what the model drew of it; "thought" up to its last
    `</think>`, that mark included, and all of a thought that never ends; "answer" what follows; "all" the prompt too.

    Args:
      trace: the trace.
      span: one of `SPANS`.
      thought: tokens of the completion that are its thought; see `Chat.thought_size`.
    """
    prompt, size = trace.prompt_ids.size, trace.completion_ids.size
    mask = np.ones(size, bool)
    if span == "sampled":
        mask = trace.source == Source.SAMPLED
    elif span in ("thought", "answer"):
        mask = (np.arange(size) < thought) if span == "thought" else (np.arange(size) >= thought)
    return np.concatenate([np.full(prompt, span == "all"), mask])


def perplexity(losses: Sequence[float], tokens: Sequence[int], resamples: int = 2000) -> dict[str, Any]:
    """The perplexity of traces with a bootstrap interval over them.

    >>> found = perplexity([2 * math.log(2), 4 * math.log(2)], [2, 4])
    >>> round(found["perplexity"], 6), found["tokens"], [round(bound, 6) for bound in found["interval"]]
    (2.0, 6, [2.0, 2.0])

    Args:
      losses: -Σ log p of each trace's counted tokens.
      tokens: how many those are.
      resamples: of the traces.

    Raises:
      UserError: not one token is counted.
    """
    loss, count = np.asarray(losses, np.float64), np.asarray(tokens, np.int64)
    if not count.sum():
        raise UserError(f"perplexity: not one token of {count.size} traces is in the span; nothing can be said")
    kept = count > 0
    loss, count = loss[kept], count[kept]
    random = np.random.default_rng(0)
    found = np.empty(resamples)
    for number in range(resamples):  # one draw at a time: those of many traces together would be hundreds of megabytes
        draw = random.integers(0, count.size, count.size)
        found[number] = math.exp(loss[draw].sum() / count[draw].sum())
    return {
        "perplexity": math.exp(loss.sum() / count.sum()),
        "interval": [float(bound) for bound in np.percentile(found, [2.5, 97.5])],
        "interval_kind": "bootstrap over traces, 95 %",
        "mean_of_traces": float(np.exp(loss / count).mean()),
        "tokens": int(count.sum()),
        "traces": int(count.size),
        "left_out": int((~kept).sum()),
    }
