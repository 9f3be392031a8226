"""Messages to prompt ids and completion ids to text, once, for every model's own template."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from lrm_align.chat import thinking
from lrm_align.chat.encoder import SpanEncoder
from lrm_align.chat.template import ChatTemplate
from lrm_align.chat.tokenizer import generation_eos, load_tokenizer, template_source
from lrm_align.errors import UserError, one_line

Messages = str | Sequence[Mapping[str, Any]]
ROLES = ("system", "developer", "user", "assistant", "tool", "ipython")
_PROBE = "probe"  # stands for a message while a template is asked about its habits


class Chat:
    """A model's chat template and tokenizer.

    Prompts are rendered by the template. Completions are never rendered: their ids, as they were sampled, are appended
    by the caller, since R1-Distill's template deletes every thought and Qwen3's all but the last. What users wrote can
    never become a control token.

    Args:
      tokenizer: a fast tokenizer.
      template: Jinja source; the tokenizer's own where None.
      template_kwargs: passed to the template in every call, for example {"enable_thinking": False}.
      stop_ids: ids that end a completion beside the template's end of turn and the tokenizer's eos.
      name: what the model is called in error messages.

    Attributes:
      think_open_in_prompt: the prompt ends inside `<think>`, as R1-Distill's does: the mark is masked, not trained.
      end_of_turn_id: the control token that the template writes after an assistant's message, or None.
      stop_ids: every id that ends a completion.

    Raises:
      UserError: no template, or one that fails on a plain conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None = None,
        *,
        template_kwargs: Mapping[str, Any] | None = None,
        stop_ids: Iterable[int] = (),
        name: str = "tokenizer",
    ):
        self.tokenizer = tokenizer
        self.encoder = SpanEncoder(tokenizer)
        self.template_kwargs = dict(template_kwargs or {})
        source = template if template is not None else template_source(tokenizer, name)
        self.template = ChatTemplate(source, f"chat template of {name}")
        self._specials = {key: token for key, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        opening = self.prompt_text(_PROBE)
        self.think_open_in_prompt = opening.rstrip().endswith(thinking.THINK_OPEN)
        self.end_of_turn_id = self._end_of_turn()
        ends = {self.end_of_turn_id, tokenizer.eos_token_id, *stop_ids} - {None}
        self.stop_ids: tuple[int, ...] = tuple(sorted(ends))

    @classmethod
    def from_pretrained(
        cls, path_or_hub_id: str, *, template: str | None = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> "Chat":
        """The chat of a model directory or hub id; the eos list of `generation_config.json` joins `stop_ids`.

        Raises:
          UserError: no tokenizer there, or no chat template.
        """
        return cls(
            load_tokenizer(path_or_hub_id),
            template,
            template_kwargs=template_kwargs,
            stop_ids=generation_eos(path_or_hub_id),
            name=path_or_hub_id,
        )

    def prompt_text(self, messages: Messages, **template_kwargs: Any) -> str:
        """The prompt as the template writes it, for people to read; ids come from `prompt_ids`."""
        return self.template.render(self._variables(_checked(messages), template_kwargs))

    def prompt_ids(self, messages: Messages, **template_kwargs: Any) -> list[int]:
        """Ids of the prompt, ready for a completion: `add_generation_prompt` is true unless said otherwise.

        Args:
          messages: {"role": …, "content": …} mappings, or one string as the only user turn.
          **template_kwargs: override those of the constructor.

        Raises:
          UserError: a message without role or text, undecodable text, or a template that fails or that changes user
            text with control tokens in it in a way that cannot be followed.
        """
        variables = self._variables(_checked(messages), template_kwargs)
        plain = self.template.render(variables)
        marker = self.encoder.marker(plain + self.template.source)
        conversation = [_wrapped_message(message, marker) for message in variables["messages"]]
        options = {key: value if key in self._specials else marker.wrap(value) for key, value in variables.items()}
        rendered = self.template.render({**options, "messages": conversation})
        if marker.unmark(rendered) != plain:
            raise UserError(
                f"{self.template.name} changes user text that holds control tokens in a way that cannot be followed, "
                f"in {one_line(plain)[:200]!r}"
            )
        return self.encoder.marked(rendered, marker)

    def completion_ids(self, thought: str | None, answer: str) -> list[int]:
        """Ids of a completion written elsewhere: thought, answer, end of turn; neither can forge a control token.

        Args:
          thought: "" for an empty block of thinking, None for no block at all.
          answer: the text after the thinking.
        """
        parts: list[tuple[str, bool]] = [(answer, False)]
        if thought is not None:
            opening = "" if self.think_open_in_prompt else f"{thinking.THINK_OPEN}\n"
            parts = [(opening, True), (thought, False), (f"\n{thinking.THINK_CLOSE}\n\n", True), *parts]
        end = [] if self.end_of_turn_id is None else [self.end_of_turn_id]
        return self.encoder.mixed(parts) + end

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text in which nothing is a control token."""
        return self.encoder.plain(text)

    def encode_trusted(self, text: str) -> list[int]:
        """Ids of text of our own, whose control tokens are meant: a forced `<think>` prefix, for example."""
        return self.encoder.trusted(text)

    def decode(self, ids: Sequence[int], keep_control: bool = True) -> str:
        """Text of ids."""
        return self.encoder.decode(ids, keep_control)

    def completion_text(self, ids: Iterable[int]) -> str:
        """Text of sampled ids up to the end of the turn; the marks of thinking stay, other special tokens go."""
        all_ids = [int(id) for id in ids]
        end = next((i for i, id in enumerate(all_ids) if id in self.stop_ids), len(all_ids))
        kept = {self.encoder.control.get(mark) for mark in (thinking.THINK_OPEN, thinking.THINK_CLOSE)}
        pieces: list[str] = []
        run: list[int] = []
        for id in all_ids[:end]:
            if id in kept:
                pieces += [self.decode(run, keep_control=False), self.decode([id])]
                run = []
            else:
                run.append(id)
        return "".join([*pieces, self.decode(run, keep_control=False)])

    def is_closed(self, text: str) -> bool:
        """Whether the thinking of a completion ended."""
        return thinking.is_closed(text)

    def split_thinking(self, text: str) -> tuple[str | None, str | None]:
        """(thought, answer) of a completion's text, None for the part that is not there."""
        return thinking.split_thinking(text, self.think_open_in_prompt)

    def full_response(self, text: str) -> str:
        """The response as one text for a judge: `<think>\\n` in front where the prompt held it."""
        return thinking.with_opening(text) if self.think_open_in_prompt else text

    def _variables(self, messages: Sequence[Mapping[str, Any]], template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        options = {"add_generation_prompt": True, "tools": None, **self.template_kwargs, **template_kwargs}
        return {**self._specials, **options, "messages": messages}

    def _end_of_turn(self) -> int | None:
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _PROBE}]
        after = self.prompt_text(turns, add_generation_prompt=False).rpartition(_PROBE)[2]
        control = set(self.encoder.control.values())
        return next((id for id in self.encode_trusted(after) if id in control), self.tokenizer.eos_token_id)


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
    return [dict(message) for message in messages]


def _wrapped_message(message: Mapping[str, Any], marker: Any) -> dict[str, Any]:
    # Roles are out of a fixed list, and some templates build control tokens from them.
    return {key: value if key == "role" else marker.wrap(value) for key, value in message.items()}
