"""DirectRefusal, the baseline without reasoning: a fixed thought and a refusal for every harmful prompt.

Huang et al. 2025, as used by ThinkSafe (arXiv 2601.23143, section 5.1): the thinking is one fixed sentence. Five epochs
over 1,000 prompts there.
"""

from collections.abc import Sequence

import numpy as np

from lrm_align.chat import Chat, Prompt
from lrm_align.provenance import Source
from lrm_align.traces import Trace

THOUGHT = "I should not answer this question!"


def traces(prompts: Sequence[Prompt], chat: Chat, refusal: str) -> list[Trace]:
    """One written trace a harmful prompt; the answer is the prompt's `meta["answer"]`, or else `refusal`.

    The tokens are INJECTED, since no model sampled them: train on that source.
    """
    written = []
    harmful = [prompt for prompt in prompts if prompt.label == "harmful"]
    rendered = chat.prompts_ids(prompt.said() for prompt in harmful)
    for prompt, prompt_ids in zip(harmful, rendered, strict=True):
        ids = chat.completion_ids(THOUGHT, str(prompt.meta.get("answer", refusal)))
        written.append(
            Trace(
                prompt_ids=np.asarray(prompt_ids),
                completion_ids=np.asarray(ids),
                source=np.full(len(ids), Source.INJECTED, np.uint8),
                prompt_id=prompt.id,
                tags=(prompt.label,),
                meta={**prompt.record(), "kind": prompt.kind},
            )
        )
    return written
