"""How a model is asked under a defence."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from lrm_align.chat import THINK_OPEN, Prompt, check_length
from lrm_align.config import build
from lrm_align.defences import Defence, none
from lrm_align.errors import UserError
from lrm_align.evals.subject import Answer
from lrm_align.recipes import rollouts
from lrm_align.recipes.measuring import Talk
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request
from lrm_align.scoring import Guard
from lrm_align.traces import Trace

GREETING = "Good morning!"


def defence(settings: ConfigDict, student: Student, guard: Callable[[], Guard], **changes: Any) -> Defence:
    """The defence of `config.defence`, or none where its factory is "".

    Args:
      settings: `config.defence`.
      student: the model.
      guard: builds the guard when it is first asked.
      **changes: of its arguments.

    Raises:
      UserError: no such factory, arguments it refuses, or something that is no defence.
    """
    if not settings.factory:
        return none(student.chat, guard)
    found = build(settings.factory, {**settings.args, **changes}, student.chat, lambda: checked(guard()))
    if not isinstance(found, Defence):
        raise UserError(
            f"config.defence.factory {settings.factory} returned a {type(found).__name__}; wanted a Defence"
        )
    return found


def talk(student: Student, defended: Defence) -> Talk:
    """Asks as `config.sample` says, under a defence; the guard sees the prompt as it was."""
    chat = student.chat

    def requests(prompts: Sequence[Prompt], settings: ConfigDict) -> list[Request]:
        asked = rollouts.requests(student, [(prompt, prompt.last) for prompt in prompts], settings)
        return [_defended(request, prompt, settings) for request, prompt in zip(asked, prompts, strict=True)]

    def _defended(request: Request, prompt: Prompt, settings: ConfigDict) -> Request:
        plain = prompt.said()
        shown = defended.messages(plain)
        ids = request.prompt_ids
        if shown != plain:
            ids = chat.prompt_ids(shown)
            check_length(ids, min(settings.max_length, student.config.max_positions), f"prompt {prompt.id!r}")
        return dataclasses.replace(request, prompt_ids=ids, intervention=defended.intervention)

    def answer(trace: Trace) -> Answer:
        text = chat.full_response(chat.completion_text(trace.completion_ids))
        return Answer(text, trace.stop_reason != "length", {"defence": trace.meta.get("intervention", {})})

    return Talk(requests, answer)


def checked(guard: Guard) -> Guard:
    """The guard, if it judges growing thoughts: a defence that asks one for whole answers would never act.

    Raises:
      UserError: it does not score a thought that is still open.
    """
    (score,) = guard.score([GREETING], [f"{THINK_OPEN}\nThe user greets me."])
    if score.value is None:
        raise UserError(
            f"guard {guard.name} does not judge a thought that is still open ({score.reason}), so that the defence "
            "would never act; name another as config.guard, such as that of configs/lab_safethink.py"
        )
    return guard
