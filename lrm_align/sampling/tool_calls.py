"""Tool calls inside a rollout: a call closes, the tool is run, its result follows as tokens that no loss counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_align.chat import Chat
from lrm_align.chat.tool_calls import Form, MalformedError, Result, Tool, shortened
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.sampling.interventions import (
    Action,
    Continue,
    Inject,
    Moment,
    Start,
    StepBoundary,
    Stop,
    StopString,
    Trigger,
)

ERROR = "Error: {}."


class ToolCalls:
    """Answers the calls of one tool while a completion grows.

    The device stops at the token that closes a call, before it could draw an end of the turn behind it: that end is
    part of what the form puts back. All that is put back is `Source.TOOL`. A call that cannot be carried out gets an
    error message as its result, and so does the first one beyond `max_calls`; the next ends the completion, with stop
    reason "intervention". MalformedError calls count.

    The completion's state holds `calls`, a list of `{"error": None or what was wrong, "tokens": of the result, "cut":
    whether it was too long, …the tool's record}`; nothing where there was no call.

    Args:
      chat: of the model.
      form: how calls and results are written.
      tool: the tool.
      max_calls: calls that are carried out.
      max_result_tokens: a longer result is cut inside, and ends with `tool_calls.CUT`.
      opening: how every completion begins, as `Source.INJECTED`: a thought that decides to call, and the head of the
        call. The model closes it: what is injected asks nobody.

    Raises:
      UserError: a limit below 1.
    """

    def __init__(
        self,
        chat: Chat,
        form: Form,
        tool: Tool,
        max_calls: int = 1,
        max_result_tokens: int = 1024,
        opening: Sequence[int] = (),
    ):
        for name, value in {"max_calls": max_calls, "max_result_tokens": max_result_tokens}.items():
            if value < 1:
                raise UserError(f"tool calls: {name} is {value}; it must be at least 1")
        self._chat, self._form, self._tool = chat, form, tool
        self._max_calls, self._max_result_tokens = max_calls, max_result_tokens
        boundary = (StepBoundary(form.boundary),) if form.boundary else ()
        start = (Start(),) if opening else ()
        self._opening = tuple(opening)
        self.ask_at: tuple[Trigger, ...] = (*start, *map(StopString, form.strings), *boundary)

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Carries out the call that the completion ends with, if it does."""
        if isinstance(trace.trigger, Start):
            return Inject(self._opening)
        turn = turn_ids(trace.ids, trace.source)
        error, result = None, Result("")
        done = len(state.get("calls", ()))
        try:
            call = self._form.read(turn)
            if call is None:
                return Continue()
            if done >= self._max_calls:
                raise MalformedError(f"no call is left, {self._max_calls} were allowed; answer without")
            if call.name != self._tool.name:
                raise MalformedError(f"there is no tool of this name; there is {self._tool.name}")
            result = self._tool.call(call.arguments)
        except MalformedError as found:
            error = str(found)
            result = Result(ERROR.format(error))
        text, cut = shortened(self._chat, result.text, self._max_result_tokens)
        ids = self._form.result(text, turn)
        made = {"error": error, "tokens": len(ids), "cut": cut, **result.record}
        state["calls"] = [*state.get("calls", ()), made]
        return Stop() if done > self._max_calls else Inject(ids, Source.TOOL)


def turn_ids(ids: np.ndarray, source: np.ndarray) -> np.ndarray:
    """What follows the last token that a tool wrote: the assistant's turn, in the form of a template.

    >>> turn_ids(np.array([5, 6, 7, 8]), np.array([Source.SAMPLED, Source.TOOL, Source.SAMPLED, Source.SAMPLED]))
    array([7, 8])
    """
    told = np.flatnonzero(np.asarray(source) == Source.TOOL)
    return ids[told[-1] + 1 :] if told.size else ids
