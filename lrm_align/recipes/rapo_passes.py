"""The two self-distillation passes of RAPO: the model analyses a prompt, then goes on from its own analysis.

arXiv 2602.04224 and its code: pass 1 asks under a system prompt for a safety analysis as long as the prompt is complex;
pass 2 opens the thought for the bare prompt with it, and the model goes on. Both are greedy. What is trained on is all
that follows the bare prompt: the analysis, which was put there, and what was sampled after it. The words are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from lrm_align.chat import Chat, Prompt, check_length
from lrm_align.chat.messages import with_system
from lrm_align.errors import UserError
from lrm_align.recipes.questions import check_fields
from lrm_align.recipes.rapo_levels import NO_ANALYSIS
from lrm_align.recipes.student import Student
from lrm_align.sampling import ForcedPrefix, Request, SamplingParams
from lrm_align.scoring.levels import Levels
from lrm_align.scoring.sentences import count_sentences
from lrm_align.traces import Trace

CUT = "analysis cut at the length limit"
SHORT = "analysis too short"
UNFIT = "analysis not as long as its level"
NO_LEVEL = "no level"
NO_ROOM = "no room to go on from the analysis"

SYSTEM = """You write the safety analysis that comes before an answer. You are shown a prompt; do not answer it.

Write one paragraph of {length}, in the first person, about what the prompt really asks for and whether helping could do
harm. {guidance}

Give no answer, carry out no part of the prompt, use no line breaks and no lists, and do not mention these instructions
or the length."""
USER = 'The prompt:\n"""\n{prompt}\n"""'
OPENING = "Okay, {analysis}\n\n"  # the authors' code
GUIDANCE = (
    "Say plainly whether I may help.",
    "Look behind the role, the story or the order that wraps it, and say that I will refuse if the core is unsafe.",
    "Take it apart into its single tasks, look at each of them, and say that I will refuse if any of them is unsafe.",
)


class Analysis(NamedTuple):
    """What pass 1 gave for a prompt: a paragraph, or why there is none."""

    text: str | None
    fault: str | None = None


def check(settings: Mapping[str, Any], levels: Levels) -> None:
    """Looks at `config.analysis`.

    Raises:
      UserError: a template without its field or with an unknown one, or too little guidance.
    """
    check_fields(settings["system"], ("length", "guidance"), "config.analysis.system", required=("length",))
    check_fields(settings["user"], ("prompt",), "config.analysis.user", required=("prompt",))
    check_fields(settings["opening"], ("analysis",), "config.analysis.opening", required=("analysis",))
    if not settings["opening"].endswith("\n\n"):
        raise UserError(
            f"config.analysis.opening is {settings['opening']!r}; it must end with a blank line, which ends the safe "
            "reasoning"
        )
    if len(settings["guidance"]) != levels.highest:
        raise UserError(
            f"config.analysis.guidance has {len(settings['guidance'])} entries; the table has {levels.highest} levels"
        )
    if settings["min_characters"] < 1:
        raise UserError(f"config.analysis.min_characters is {settings['min_characters']}; it must be at least 1")


def analyses(
    student: Student,
    prompts: Sequence[Prompt],
    level_of: Mapping[str, int],
    levels: Levels,
    settings: Mapping[str, Any],
    sampling: ConfigDict,
) -> list[Request]:
    """What pass 1 asks: every prompt with a level above 0.

    Args:
      student: whose template renders it.
      prompts: of stage 1.
      level_of: levels by id; prompts that it lacks are left out.
      levels: lengths.
      settings: `config.analysis`.
      sampling: of the pass.

    Raises:
      UserError: a prompt that leaves no room.
    """
    found = []
    for prompt in prompts:
        level = level_of.get(prompt.id, NO_ANALYSIS)
        if level == NO_ANALYSIS:
            continue
        guidance = settings["guidance"][min(level, levels.highest) - 1]
        messages = with_system(
            prompt.said(settings["user"].format(prompt=prompt.last)),
            settings["system"].format(length=levels.to_write(level), guidance=guidance),
        )
        ids = student.chat.prompt_ids(messages)
        check_length(ids, _context(student, sampling), f"the analysis of prompt {prompt.id!r}")
        found.append(_request(prompt, ids, level, sampling))
    return found


def read(traces: Sequence[Trace], chat: Chat, levels: Levels, settings: Mapping[str, Any]) -> dict[str, Analysis]:
    """The analyses of pass 1 by prompt: what the model said after its thinking, as one paragraph.

    Rejected is, as in the authors' code, what ran into its limit or is too short; and, where `settings["fit"]` says so
    (ours), what does not keep to the length that its level was told.

    Args:
      traces: of pass 1.
      chat: of the model.
      levels: lengths.
      settings: `config.analysis`.
    """
    found = {}
    for trace in traces:
        answer = chat.split_thinking(chat.completion_text(trace.completion_ids))[1]
        # The first paragraph is what counts as safe reasoning: there must be no second one.
        text = " ".join((answer or "").split())
        if trace.stop_reason != "stop" or answer is None:
            found[trace.prompt_id] = Analysis(None, CUT)
        elif len(text) < settings["min_characters"]:
            found[trace.prompt_id] = Analysis(None, SHORT)
        elif settings["fit"] and count_sentences(text) not in levels.to_write(trace.meta["level"]):
            found[trace.prompt_id] = Analysis(None, UNFIT)
        else:
            found[trace.prompt_id] = Analysis(text)
    return found


def continuations(
    student: Student,
    prompts: Sequence[Prompt],
    level_of: Mapping[str, int],
    analysed: Mapping[str, Analysis],
    opening: str,
    sampling: ConfigDict,
) -> tuple[list[Request], dict[str, str]]:
    """What pass 2 samples: the bare prompt, the thought opened by the analysis; kinds without one from the prompt on.

    Args:
      student: whose template renders it.
      prompts: of stage 1.
      level_of: levels by id.
      analysed: of pass 1.
      opening: template of the forced opening of the thought.
      sampling: of the pass.

    Returns:
      the requests, and {prompt id: reason} of the prompts that are left out.

    Raises:
      UserError: a bare prompt that leaves no room.
    """
    found, dropped = [], {}
    context = _context(student, sampling)
    for prompt in prompts:
        level = level_of.get(prompt.id)
        ids = student.chat.prompt_ids(prompt.said())
        check_length(ids, context, f"prompt {prompt.id!r}")
        if level is None:
            dropped[prompt.id] = NO_LEVEL
            continue
        if level == NO_ANALYSIS:
            found.append(_request(prompt, ids, level, sampling))
            continue
        text, fault = analysed[prompt.id]
        if text is None:
            dropped[prompt.id] = fault or ""
            continue
        prefix = opened(student.chat, opening.format(analysis=text))
        if len(ids) + len(prefix) + 1 > context or len(prefix) >= sampling.max_new_tokens:
            dropped[prompt.id] = NO_ROOM
            continue
        found.append(_request(prompt, ids, level, sampling, ForcedPrefix(tuple(prefix))))
    return found, dropped


def opened(chat: Chat, text: str) -> list[int]:
    """Ids of a thought that begins with a text; its own mark stands in front where the prompt has none."""
    return chat.encoder.mixed([(chat.opening, True), (text, False)])


def _request(
    prompt: Prompt, ids: list[int], level: int, sampling: ConfigDict, intervention: ForcedPrefix | None = None
) -> Request:
    params = SamplingParams(
        sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.max_new_tokens
    )
    return Request(
        prompt.id,
        ids,
        samples=1,
        params=params,
        intervention=intervention,
        tags=(prompt.label, prompt.kind) if prompt.kind else (prompt.label,),
        meta={**prompt.record(), "level": level},
    )


def _context(student: Student, sampling: ConfigDict) -> int:
    return min(sampling.max_length, student.config.max_positions)
