"""A chat template as the rest of the package sees it: rendered elsewhere, refused in one line."""

import datetime
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from lrm_align.errors import UserError, one_line
from lrm_align.rendering.process import PROCESS, EndedError, batches

DATE = "2024-07-26"  # what Llama's templates write where they cannot ask for the day
LONGEST = 1 << 20  # characters of a source: published ones have up to some ten thousand


class ExhaustedError(UserError):
    """A template took too much of time or memory: it is not asked again."""


class Spans(NamedTuple):
    """A rendered conversation, cut at its control tokens.

    Attributes:
      texts: what stands between control tokens, and before and after them; one more than there are.
      control: the control tokens that the template wrote.
      left_out: how often the template left something out, by kind; see `rendering.said`.
    """

    texts: Sequence[str]
    control: Sequence[str]
    left_out: Mapping[str, int]


class ChatTemplate:
    """A chat template with the whitespace rules, filters and functions that Hugging Face renders with.

    It runs in a process of its own, within limits of time and memory; `strftime_now` writes a fixed date.

    >>> ChatTemplate("{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}").render(
    ...     {"messages": [{"role": "user", "content": " hello "}]})
    '[user]hello'

    Args:
      source: the Jinja source.
      name: what the template is called in error messages.
      date: what `strftime_now` writes, YYYY-MM-DD.
      control: strings that nobody but the template may write.
      split: pattern that finds them in a text.

    Raises:
      UserError: the source does not parse, or the date is none.
    """

    def __init__(
        self,
        source: str,
        name: str = "chat template",
        date: str = DATE,
        *,
        control: Iterable[str] = (),
        split: str = "(?!)",
    ):
        if not isinstance(source, str) or len(source) > LONGEST:
            size = f"{len(source)} characters" if isinstance(source, str) else f"a {type(source).__name__}"
            raise UserError(f"{name} is {size}; expected a text of at most {LONGEST}")
        self.source, self.name, self.date = source, name, _checked(date)
        definition = {"source": source, "date": self.date, "control": list(control), "split": split}
        self._definition = {**definition, "template": PROCESS.number()}
        if fault := self._ask([]):
            raise UserError(f"{name} does not parse: {one_line(fault[-1])[:500]}")

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text of a conversation.

        Args:
          variables: `messages`, `add_generation_prompt`, special tokens by name, and whatever else the template reads.

        Raises:
          UserError: the template refused the conversation, failed, tried to leave its sandbox, or took too much of time
            or memory.
        """
        options = {name: value for name, value in variables.items() if name != "messages"}
        return self.texts([variables.get("messages", [])], options)[0]

    def texts(self, conversations: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
        """The texts of conversations that share the other variables; see `render`."""
        request = {"options": options, "spans": False}
        return self._all([(messages, None) for messages in conversations], request)

    def spans(
        self,
        conversations: Sequence[Any],
        options: Mapping[str, Any],
        *,
        names: Iterable[str] = (),
        said: Sequence[Any] | None = None,
        trims: Collection[str] = (),
    ) -> list[Spans]:
        """Conversations in which only the template's own control tokens are cut out, whatever users wrote.

        Args:
          conversations: messages, in the form that the template reads.
          options: the other variables.
          names: those of them that hold no user text.
          said: the messages with contents as texts, where the template reads another form.
          trims: roles whose outer blanks it may drop.

        Raises:
          UserError: as `render`; or a message is not in the text as it was said, or user text that holds control tokens
            is changed in a way that cannot be followed.
        """
        request = {"options": options, "spans": True, "names": list(names), "trims": list(trims)}
        found = self._all(list(zip(conversations, said or [None] * len(conversations), strict=True)), request)
        return [Spans(texts=pieces[1::2], control=pieces[2::2], left_out=pieces[0]) for pieces in found]

    def _all(self, pairs: Sequence[tuple[Any, Any]], request: Mapping[str, Any]) -> list[Any]:
        number = self._definition["template"]
        requests = [{**request, "template": number, "conversations": group} for group in batches(pairs)]
        found = list(itertools.chain.from_iterable(self._ask(requests)))
        for answer, (messages, _) in zip(found, pairs, strict=True):
            if isinstance(answer, dict):
                kind, told = answer["refused"]
                self._refuse(kind, told, messages)
        return found

    def _ask(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        try:
            return PROCESS.ask(self._definition, requests)
        except EndedError as ended:
            what = f"{len(requests[ended.number]['conversations'])} conversation(s)" if requests else "its source"
            raise ExhaustedError(
                f"{self.name} was ended: it needs more than {ended.limit} for {what}, where milliseconds are usual; "
                "use the template that belongs to the model"
            ) from None

    def _refuse(self, kind: str, told: Any, messages: Sequence[Mapping[str, Any]]) -> NoReturn:
        if kind == "fault":
            raise UserError(f"{self.name} failed on this conversation: {one_line(told)[:500]}")
        if kind == "lost":
            number, text = told
            raise UserError(
                f"{self.name} changes or leaves out what message {number + 1} says (role "
                f"{messages[number]['role']!r}): {one_line(text)[:80]!r} is not in the rendered text"
            )
        raise UserError(
            f"{self.name} changes user text that holds control tokens in a way that cannot be followed, in "
            f"{one_line(told)[:200]!r}"
        )


def _checked(date: str) -> str:
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except (TypeError, ValueError):
        raise UserError(f"the date of chat templates is {date!r}; expected YYYY-MM-DD") from None
