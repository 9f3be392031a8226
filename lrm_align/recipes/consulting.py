"""A conversation in which the rules can be consulted: how it is asked, and what a sample of it did and said."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat import THINK_CLOSE, Chat, Prompt, check_length
from lrm_align.chat.chat import Messages
from lrm_align.chat.messages import with_system
from lrm_align.chat.tool_calls import Form, make_form
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.evals.subject import Answer
from lrm_align.provenance import Source
from lrm_align.recipes import rules
from lrm_align.sampling import Request, SamplingParams
from lrm_align.sampling.tool_calls import ToolCalls, turn_ids
from lrm_align.traces import Trace

CONSULT, DIRECT = "consult", "direct"
RISKY, LOOKALIKE, BENIGN = "risky", "lookalike", "benign"
CLASSES = (RISKY, LOOKALIKE, BENIGN)  # look-alikes before benign: their label says benign, too

CUT = "cut at the length limit"
ENDED = "too many calls"
MALFORMED = "malformed call"
OPEN = "thinking not closed"
TWICE = "thinking closed more than once"
NO_ANSWER = "no answer"
UNANSWERED = "a call in the answer"

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


class Spoken(NamedTuple):
    """What a sample did and said.

    Attributes:
      consulted: it got rules.
      categories: that it named, in the order of its calls.
      errors: of its calls.
      thought: of the last turn; None where there is none.
      answer: what the user reads: the text after the last thinking, without calls; None without one.
      fault: None for a whole one, else what is wrong, one of this module's reasons.
    """

    consulted: bool
    categories: tuple[str, ...]
    errors: tuple[str, ...]
    thought: str | None
    answer: str | None
    fault: str | None

    @property
    def mode(self) -> str:
        """What it is of: "consult", "direct", or "" where calls were tried and none gave rules."""
        if self.consulted:
            return CONSULT
        return "" if self.errors else DIRECT


class Consulting:
    """The rules as a tool of a model.

    Args:
      chat: of the model.
      settings: `config.tool`: `form` ("template" or "text"), `name` of the tool, `offer` (a system text instead of the
        form's own offer; empty for that), `rules` (path of a rule book; empty for the packaged one), `max_calls`,
        `max_result_tokens`, and `lookalikes` (kinds of benign prompts that look harmful).

    Attributes:
      form: how calls and results are written.
      identity: plain values that tell this conversation from others; the rule book counts by what it says.

    Raises:
      UserError: a name, rule book, form or limit that does not work.
    """

    def __init__(self, chat: Chat, settings: Mapping[str, Any]):
        if not _NAME.fullmatch(settings["name"]):
            raise UserError(
                f"config.tool.name is {settings['name']!r}; expected letters, digits and underscores, a letter first"
            )
        book = rules.load(settings["rules"])
        tool = book.tool(settings["name"])
        self.identity = {**settings, "rules": digest([tool.schema(), book.text()])}
        self._chat, self._name = chat, settings["name"]
        self._lookalikes = frozenset(settings["lookalikes"])
        self._in_turn = settings["form"] == "text"
        self.form: Form = make_form(settings["form"], chat, tool, settings["offer"])
        limits = {name: settings[name] for name in ("max_calls", "max_result_tokens")}
        self._calls = functools.partial(ToolCalls, chat, self.form, tool, **limits)
        self._answering = self._calls()

    def class_of(self, prompt: Prompt) -> str:
        """The class of a prompt: "risky", "lookalike" or "benign"."""
        if prompt.label == "harmful":
            return RISKY
        return LOOKALIKE if prompt.kind in self._lookalikes else BENIGN

    def request(
        self,
        prompt: Prompt,
        params: SamplingParams,
        context: int,
        *,
        id: str = "",
        samples: int | Sequence[int] = 1,
        offered: bool = True,
        asked: str = "",
        opening: str = "",
    ) -> Request:
        """What the engine is asked; `meta["prompt"]` keeps the prompt, tags are label, sub-kind and class.

        Args:
          prompt: what the user says.
          params: how to draw.
          context: positions that prompt and completion have.
          id: `prompt_id` of the request, where it is not the prompt's.
          samples: how many, or which.
          offered: whether there is a tool.
          asked: a system text beside the offer.
          opening: how the completion begins, up to inside a call; control tokens in it are meant.

        Raises:
          UserError: no room is left for an answer.
        """
        messages = with_system(prompt.said(), asked) if asked else prompt.said()
        ids = self.form.prompt(messages) if offered else self._chat.prompt_ids(messages)
        check_length(ids, context, f"prompt {prompt.id!r}")
        own = self.class_of(prompt)
        kind = prompt.kind if prompt.kind not in CLASSES else ""  # the class is what these words mean as tags
        tags = tuple(dict.fromkeys(tag for tag in (prompt.label, kind, own) if tag))
        return Request(
            id or prompt.id,
            ids,
            samples=samples,
            params=params,
            intervention=self._intervention(opening) if offered else None,
            tags=tags,
            meta=prompt.record(),
        )

    def _intervention(self, opening: str) -> ToolCalls:
        return self._calls(opening=self._chat.encode_trusted(opening)) if opening else self._answering

    def prompt_ids(self, messages: Messages) -> list[int]:
        """The prompt that is trained on: the conversation, and the offer."""
        return self.form.prompt(messages)

    def spoken(self, trace: Trace) -> Spoken:
        """What a sample did and said."""
        calls = trace.meta.get("intervention", {}).get("calls", [])
        errors = tuple(call["error"] for call in calls if call["error"] is not None)
        categories = tuple(name for call in calls for name in call.get(rules.ARGUMENT, ()))
        text = self._last_words(trace)
        thought, answer = self._chat.split_thinking(text)
        if self._in_turn and answer is not None:
            answer = re.sub(f"<{self._name}>.*?</{self._name}>", "", answer, flags=re.DOTALL).strip()
        fault = self._fault(trace, text, answer, errors)
        return Spoken(len(calls) > len(errors), categories, errors, thought, answer or None, fault)

    def mode(self, trace: Trace) -> str:
        """What a sample did: "consult", "direct" or ""."""
        return self.spoken(trace).mode

    def text(self, trace: Trace) -> str:
        """All turns as they stand, control tokens and all, for people to read."""
        ids = trace.completion_ids.tolist()
        return self._chat.full_response(self._chat.decode(ids[:-1] if ids and ids[-1] in self._chat.stop_ids else ids))

    def answer(self, trace: Trace) -> Answer:
        """A sample as evaluations see it: the last words, and in the notes what it did."""
        found = self.spoken(trace)
        notes = {"consulted": found.consulted, "categories": list(found.categories), "errors": list(found.errors)}
        text = self._chat.full_response(self._last_words(trace))
        return Answer(text, trace.stop_reason == "stop", {**notes, "answer": found.answer, "whole": self.text(trace)})

    def _last_words(self, trace: Trace) -> str:
        """The text of the last turn; of the only one, without results, where calls stand inside the turn."""
        if self._in_turn:
            return self._chat.completion_text(trace.completion_ids[trace.source != Source.TOOL])
        return self._chat.completion_text(turn_ids(trace.completion_ids, trace.source))

    def _fault(self, trace: Trace, text: str, answer: str | None, errors: tuple[str, ...]) -> str | None:
        if trace.stop_reason == "length":
            return CUT
        if trace.stop_reason != "stop":
            return ENDED
        if errors:
            return MALFORMED
        if not self._chat.is_closed(text):
            return OPEN
        if text.count(THINK_CLOSE) > 1:
            return TWICE
        if not answer:
            return NO_ANSWER
        marks = (f"<{self._name}>", f"</{self._name}>") if self._in_turn else ("<tool_call>", "</tool_call>")
        return UNANSWERED if any(mark in answer for mark in marks) else None
