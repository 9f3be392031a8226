"""What a sampled trace becomes before it is trained on."""

import numpy as np

from lrm_align.chat import Chat
from lrm_align.chat.chat import Messages
from lrm_align.provenance import Source
from lrm_align.traces import Trace


def unsteered(trace: Trace, chat: Chat) -> Trace:
    """The same completion under the original prompt: the context distillation that ThinkSafe consists of."""
    return trace.replace(prompt_ids=chat.prompt_ids(asked(trace)))


def asked(trace: Trace) -> Messages:
    """The conversation that a trace answers, as it was before anything steered it."""
    return trace.meta.get("messages") or [{"role": "user", "content": trace.meta["prompt"]}]


def without_thinking(trace: Trace, chat: Chat) -> Trace:
    """The completion with its thought taken out and an empty block in its place (ThinkSafe, section 5.2).

    The answer keeps its sampled ids; the empty block is INJECTED. The template's own spelling of "no thought" is kept,
    so that the answer follows what it follows when thinking is switched off.
    """
    ends = chat.thought_ends(trace.completion_ids.tolist())
    if not ends:
        return trace
    block = chat.completion_ids("", "")
    block = block[: chat.thought_ends(block)[-1]]
    answer = slice(ends[-1], None)
    return _replaced(trace, block, trace.completion_ids[answer], trace.source[answer], trace.sampler_logp[answer])


def translated(trace: Trace, teacher: Chat, student: Chat) -> Trace:
    """A trace of another model's tokenizer in the student's ids: the one case in which sampled text is read again.

    The ids are nobody's samples any more, so they are INJECTED, and their log-probabilities are dropped.
    """
    thought, answer = teacher.split_thinking(teacher.completion_text(trace.completion_ids))
    ids = student.completion_ids(None if thought is None else thought.strip("\n"), (answer or "").lstrip("\n"))
    nothing = np.empty(0, np.int32)
    return _replaced(trace, ids, nothing, nothing, np.empty(0, np.float32))


def same_tokens(a: Chat, b: Chat) -> bool:
    """Whether two models' ids mean the same tokens."""
    return a.tokenizer.get_vocab() == b.tokenizer.get_vocab()


def _replaced(trace: Trace, written: list[int], rest, source, sampler_logp) -> Trace:
    completion_ids = np.concatenate([np.asarray(written, np.int32), rest])
    return trace.replace(
        completion_ids=completion_ids,
        source=np.concatenate([np.full(len(written), Source.INJECTED, np.uint8), source]).astype(np.uint8),
        sampler_logp=np.concatenate([np.full(len(written), np.nan, np.float32), sampler_logp]),
        model_logp=None,
    )
