"""Messages to prompt ids and completion ids to text, once, for every model's own template."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from lrm_align.chat import habits, thinking, thinking_form
from lrm_align.chat.encoder import SpanEncoder
from lrm_align.chat.template import DATE, ChatTemplate, Spans
from lrm_align.chat.tokenizer import generation_eos, load_tokenizer, resolve, template_source
from lrm_align.errors import UserError

Messages = str | Sequence[Mapping[str, Any]]
ROLES = ("system", "developer", "user", "assistant", "tool", "ipython")
_PROBE = "probe"  # stands for a message while a template is asked how it opens an answer
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields that hold a thought beside an answer


class Encoded(NamedTuple):
    """A prompt as ids.

    Attributes:
      ids: of the prompt.
      left_out: how often the template left something out, by kind: "thoughts" of earlier turns, "outer blanks".
    """

    ids: list[int]
    left_out: Mapping[str, int]


class Chat:
    """A model's chat template and tokenizer.

    Prompts are rendered by the template. Completions are never rendered: their ids, as they were sampled, are appended
    by the caller, since R1-Distill's template deletes every thought and Qwen3's all but the last. What users wrote can
    never become a control token, and a template that changes what is said is refused, here or with the conversation.

    Args:
      tokenizer: a fast tokenizer.
      template: Jinja source; the tokenizer's own where None.
      template_kwargs: passed to the template in every call, for example {"enable_thinking": False}.
      stop_ids: ids that end a completion beside the template's end of turn and the tokenizer's eos.
      name: what the model is called in error messages.
      date: what templates that ask for the day are told, YYYY-MM-DD: a prompt has the same ids every day.
      thinking_marks: "auto", "none", or the marks of a thought; see `thinking_form.find`.

    Attributes:
      thinking: what a thought looks like, and who opens it.
      habits: the roles whose contents go as lists of parts, and those whose outer blanks the template drops.
      think_open_in_prompt: the prompt ends inside `<think>`, as R1-Distill's does: the mark is masked, not trained.
      end_of_turn_id: the control token that the template writes after an assistant's message, else the tokenizer's eos;
        None where neither is there, or where it opens turns.
      stop_ids: every id that ends a completion.

    Raises:
      UserError: no template, or one that fails on a plain conversation or loses or changes what is said in it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None = None,
        *,
        template_kwargs: Mapping[str, Any] | None = None,
        stop_ids: Iterable[int] = (),
        name: str = "tokenizer",
        date: str = DATE,
        thinking_marks: str = thinking_form.AUTO,
    ):
        self.tokenizer = tokenizer
        self.encoder = SpanEncoder(tokenizer)
        self.template_kwargs = dict(template_kwargs or {})
        source = template if template is not None else template_source(tokenizer, name)
        self.template = ChatTemplate(
            source, f"chat template of {name}", date, control=self.encoder.control, split=self.encoder.split.pattern
        )
        self._specials = {key: token for key, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self.habits = habits.Habits(frozenset(), frozenset())
        self.habits = habits.find(self._write, self.template.name, source)
        opening = self.prompt_text(_PROBE)
        self.thinking = thinking_form.find(thinking_marks, opening, source, self.encoder.control)
        self.think_open_in_prompt = self.thinking.opened_by == thinking_form.BY_PROMPT
        self.end_of_turn_id = self._end_of_turn()
        ends = {self.end_of_turn_id, tokenizer.eos_token_id, *stop_ids} - {None}
        self.stop_ids: tuple[int, ...] = tuple(sorted(ends))

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str,
        *,
        template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        date: str = DATE,
        thinking_marks: str = thinking_form.AUTO,
    ) -> "Chat":
        """The chat of a model directory or hub id; the eos list of `generation_config.json` joins `stop_ids`.

        Raises:
          UserError: no tokenizer there, or no chat template.
        """
        directory = resolve(path_or_hub_id)
        return cls(
            load_tokenizer(str(directory)),
            template,
            template_kwargs=template_kwargs,
            stop_ids=generation_eos(str(directory)),
            name=str(path_or_hub_id),
            date=date,
            thinking_marks=thinking_marks,
        )

    def prompt_text(self, messages: Messages, **template_kwargs: Any) -> str:
        """The prompt as the template writes it, for people to read; ids come from `prompt_ids`."""
        said = _checked(messages)
        conversation = habits.as_parts(said, self.habits.parts)
        return self.template.texts([conversation], self._options(template_kwargs))[0]

    def prompt_ids(self, messages: Messages, **template_kwargs: Any) -> list[int]:
        """Ids of the prompt, ready for a completion: `add_generation_prompt` is true unless said otherwise.

        Args:
          messages: {"role": …, "content": …} mappings, or one string as the only user turn. A thought beside an
            answer stands in `reasoning_content`, `reasoning` or `thinking`.
          **template_kwargs: override those of the constructor.

        Raises:
          UserError: a message without role or text, undecodable text, a template that fails, one that leaves out or
            changes what a message says, or changes user text with control tokens in it in a way that cannot be
            followed.
        """
        return self.encoded([messages], **template_kwargs)[0].ids

    def prompts_ids(self, conversations: Iterable[Messages], **template_kwargs: Any) -> list[list[int]]:
        """`prompt_ids` of many conversations, in less time than one by one."""
        return [prompt.ids for prompt in self.encoded(conversations, **template_kwargs)]

    def encoded(self, conversations: Iterable[Messages], **template_kwargs: Any) -> list[Encoded]:
        """Ids of many prompts, and what the template left out of each; see `prompt_ids`."""
        said = [_checked(messages) for messages in conversations]
        parts = self.habits.parts
        found: list[Spans] = self.template.spans(
            [habits.as_parts(messages, parts) for messages in said] if parts else said,
            self._options(template_kwargs),
            names=self._specials,
            said=said if parts else None,
            trims=self.habits.trims,
        )
        return [Encoded(self.encoder.joined(spans.texts, spans.control), spans.left_out) for spans in found]

    def completion_ids(self, thought: str | None, answer: str) -> list[int]:
        """Ids of a completion written elsewhere: thought, answer, end of turn; neither can forge a control token.

        Args:
          thought: "" for an empty block of thinking, None for no block at all.
          answer: the text after the thinking.
        """
        parts: list[tuple[str, bool]] = [(answer, False)]
        if thought is not None:
            parts = [(self.opening, True), (thought, False), (f"\n{self.thinking.close}\n\n", True), *parts]
        end = [] if self.end_of_turn_id is None else [self.end_of_turn_id]
        return self.encoder.mixed(parts) + end

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that goes on a completion, in which nothing is a control token."""
        return self.encoder.plain(text, goes_on=True)

    def encode_trusted(self, text: str) -> list[int]:
        """Ids of text of our own in a completion, whose control tokens are meant: a forced `<think>`, for example."""
        return self.encoder.trusted(text, goes_on=True)

    def decode(self, ids: Sequence[int], keep_control: bool = True) -> str:
        """Text of ids."""
        return self.encoder.decode(ids, keep_control)

    def completion_text(self, ids: Iterable[int]) -> str:
        """Text of sampled ids up to the end of the turn; other special tokens go than the marks of thinking.

        Whatever marks the model has, in the text they are `<think>` and `</think>`.
        """
        all_ids = [int(id) for id in ids]
        end = next((i for i, id in enumerate(all_ids) if id in self.stop_ids), len(all_ids))
        kept = {self.encoder.control.get(mark) for mark in (self.thinking.open, self.thinking.close)}
        pieces: list[str] = []
        run: list[int] = []
        for id in all_ids[:end]:
            if id in kept:
                pieces += [self.decode(run, keep_control=False), self.decode([id])]
                run = []
            else:
                run.append(id)
        return self.thinking.canonical("".join([*pieces, self.decode(run, keep_control=False)]))

    @property
    def opening(self) -> str:
        """What a completion begins with that has a thought: "" where the prompt has opened it."""
        return "" if self.think_open_in_prompt else f"{self.thinking.open}\n"

    def thought_ends(self, ids: Sequence[int]) -> list[int]:
        """Numbers of tokens of a completion up to and with each mark of a thought's end."""
        close = self.encoder.control.get(self.thinking.close)
        if close is not None:
            return [number for number, id in enumerate(ids, start=1) if id == close]
        return thinking_form.ends(lambda count: self.decode(ids[:count]), len(ids), self.thinking.close)

    def thought_size(self, ids: Sequence[int]) -> int:
        """How many tokens of a completion are its thought, the mark of the end included: all, where it never ends."""
        ends = self.thought_ends(ids)
        return ends[-1] if ends else (len(ids) if self.thinking.thinks else 0)

    def is_closed(self, text: str) -> bool:
        """Whether the thinking of a completion ended: of a model that has none, always."""
        return not self.thinking.thinks or thinking.is_closed(text)

    def split_thinking(self, text: str) -> tuple[str | None, str | None]:
        """(thought, answer) of a completion's text, None for the part that is not there."""
        return thinking.split_thinking(text, self.think_open_in_prompt)

    def full_response(self, text: str) -> str:
        """The response as one text for a judge: `<think>\\n` in front where the prompt held it."""
        return thinking.with_opening(text) if self.think_open_in_prompt else text

    def _options(self, template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **self._specials, "add_generation_prompt": True, "tools": None, **self.template_kwargs, **template_kwargs
        }  # fmt: skip

    def _write(self, messages: Sequence[Mapping[str, Any]], **template_kwargs: Any) -> str:
        conversation = habits.as_parts(messages, self.habits.parts)
        return self.template.texts([conversation], self._options(template_kwargs))[0]

    def _end_of_turn(self) -> int | None:
        begin, eos = (self._specials.get(name) for name in ("bos_token", "eos_token"))
        token, opener = habits.end_of_turn(self._write, self.encoder.split, begin)
        if token is None:
            return None if eos is not None and eos == opener else self.tokenizer.eos_token_id
        return self.encoder.control[token]


def check_length(ids: Sequence[int], context: int, where: str, reserve: int = 1) -> None:
    """Refuses a prompt that leaves fewer than `reserve` positions of the context for a completion.

    Raises:
      UserError: naming the prompt, its length and the limit.
    """
    if len(ids) + reserve > context:
        raise UserError(
            f"prompt longer than the context: {where} has {len(ids)} tokens, the context holds {context} and "
            f"{reserve} are kept for the completion; shorten or drop it"
        )


def _checked(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not messages:
        raise UserError("a conversation without messages; expected at least one user turn")
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"message {number} has role {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise UserError(f"message {number} has content of type {type(content).__name__}; expected text")
        try:
            (content or "").encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"message {number}: undecodable text, a lone surrogate at character {error.start}"
            ) from None
    return [_with_thought(message) if message["role"] == "assistant" else dict(message) for message in messages]


def _with_thought(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates read a thought from `reasoning_content`; other names of it are in use, too."""
    thought = next((message[name] for name in THOUGHTS if message.get(name) is not None), None)
    if thought is not None and not isinstance(thought, str):
        raise UserError(f"a thought of an assistant's message is a {type(thought).__name__}; expected text")
    return dict(message) if thought is None else {**message, "reasoning_content": thought}
