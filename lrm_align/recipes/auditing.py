"""Pass 2 of Safe Trigger: the model audits its own reasoning; and the assembly of both passes into a training trace.

Miao et al. 2026, arXiv 2606.16808, section 3.1. The paper prints neither its safety-analysis prompt nor a filter: both
are ours. Ids that were sampled are spliced, never read again.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lrm_align.chat import Chat, Prompt
from lrm_align.errors import UserError
from lrm_align.recipes.questions import check_fields
from lrm_align.traces import Trace

FIRST, SECOND = "first", "second"
HARMFUL, BENIGN = "harmful", "benign"

# The three components are the paper's; the words, and the line about the risk that `evals.triggered` reads, are ours.
TEMPLATE = """{request}

Here is your own reasoning about the query above, before you answered it:

{thought}

Audit this reasoning for safety, then answer the query. Reply in exactly this form, with nothing before the block:

<safe>
Core issue: what the query really asks for, and whether there is a safety risk. Close with "Risk: yes" or "Risk: no".
Reasoning: if there is a risk, whether the reasoning above considered it adequately.
Guidance: how the final answer should be given.
</safe>

the final answer to the query, following the guidance"""


def check(template: str, think_source: str) -> None:
    """Refuses settings of pass 2 that cannot work.

    Raises:
      UserError: a template without the query or the reasoning, or an unknown source of the thinking.
    """
    check_fields(template, ("request", "thought"), "config.audit.template", required=("request", "thought"))
    if think_source not in (FIRST, SECOND):
        raise UserError(
            f"config.audit.think_source is {think_source!r}; it is {FIRST!r} (the paper's section 3.1) or {SECOND!r} "
            "(its figure 2)"
        )


def audits(traces: Iterable[Trace], chat: Chat, template: str, context: int) -> tuple[list[tuple[Prompt, str]], int]:
    """The audit prompts of the risky traces whose thinking ended.

    Args:
      traces: of pass 1, with the query in `meta["prompt"]`.
      chat: of the model.
      template: with the fields `{request}` and `{thought}`.
      context: tokens that a prompt and its answer have room for.

    Returns:
      each query with the user turn that is sampled for it, by prompt id; and how many leave no room for an answer.
    """
    asked, too_long = [], 0
    for trace in sorted(traces, key=lambda trace: trace.key):
        thought = chat.split_thinking(chat.completion_text(trace.completion_ids))[0]
        if trace.tags[0] != HARMFUL or not closed(trace, chat):
            continue
        text = template.format(request=trace.meta["prompt"], thought=thought or "")
        if len(chat.prompt_ids(text)) + 1 > context:
            too_long += 1
            continue
        kind = trace.tags[1] if len(trace.tags) > 1 else ""
        asked.append((Prompt(trace.prompt_id, trace.meta["prompt"], HARMFUL, kind), text))
    return asked, too_long


def closed(trace: Trace, chat: Chat) -> bool:
    """Whether the thinking ended."""
    return bool(chat.thought_ends(trace.completion_ids.tolist()))


def closed_once(trace: Trace, chat: Chat) -> bool:
    """Whether the thinking ended exactly once, so that it is plain which tokens belong to it."""
    return len(chat.thought_ends(trace.completion_ids.tolist())) == 1


def assembled(first: Trace, second: Trace, chat: Chat, think_source: str = FIRST) -> Trace:
    """One training trace under the bare query: thinking, block and guided answer, every id as it was sampled.

        completion = thinking(first or second) ‖ what followed the thinking of the second

    The paper contradicts itself about the thinking: section 3.1 keeps that of pass 1, figure 2 that of pass 2. The
    first is on the model's own distribution for the bare query, so that in use the block follows the reasoning that the
    model really writes (our default). Log-probabilities stay those under the prompt that each part was drawn for.

    Args:
      first: of pass 1; gives the prompt.
      second: of pass 2, for the same query.
      chat: of the model that sampled both.
      think_source: "first" or "second".

    Raises:
      ValueError: a trace whose thinking is open.
    """
    head = _after_thinking(first if think_source == FIRST else second, chat)
    tail = _after_thinking(second, chat)
    source = first if think_source == FIRST else second

    def joined(field: str) -> np.ndarray:
        return np.concatenate([getattr(source, field)[:head], getattr(second, field)[tail:]])

    return first.replace(
        completion_ids=joined("completion_ids"),
        source=joined("source"),
        sampler_logp=joined("sampler_logp"),
        model_logp=joined("model_logp"),
        stop_reason=second.stop_reason,
        meta={**first.meta, "think_source": think_source},
    )


def check_labels(prompts: Sequence[Prompt]) -> None:
    """Refuses prompts without which the trigger is not adaptive: some must be risky, and some general.

    Raises:
      UserError: all prompts have one label.
    """
    found = {prompt.label for prompt in prompts}
    if BENIGN not in found:
        raise UserError(
            f"config.prompts: none of {len(prompts)} prompts is general (label {BENIGN!r}); without answers that have "
            "no block the model would learn to write one everywhere"
        )
    if HARMFUL not in found:
        raise UserError(
            f"config.prompts: none of {len(prompts)} prompts is risky (label {HARMFUL!r}); there is nothing to audit"
        )


def _after_thinking(trace: Trace, chat: Chat) -> int:
    ends = chat.thought_ends(trace.completion_ids.tolist())
    if not ends:
        raise ValueError(f"trace {trace.key}: the thinking is open")
    return ends[-1]
