"""Conversations as traces: ids, and which of them are trained on.

An answer is rendered by the model's own template, in its conversation, and ends with the token that ends a turn; what
the template writes after that is left out, since a model is never asked for it. Where the template writes an answer's
beginning otherwise than it opens one to be sampled (R1-Distill's deletes thoughts), the answer follows the prompt that
would be sampled from.
"""

import collections
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align.chat import Chat
from lrm_align.chat.template import ExhaustedError
from lrm_align.data import system, thoughts
from lrm_align.data.conversation import Conversation, answers, split
from lrm_align.errors import UserError, one_line
from lrm_align.provenance import Source
from lrm_align.traces import Trace

ALL, LAST = "all", "last"
TURNS = (ALL, LAST)
REFUSED, NO_CALLS, TOO_LONG = "refused by the chat template", "tool calls without a place", "prompt fills the row"
ENDED = "a thought after the prompt has ended it"  # as with enable_thinking=False
_AT_ONCE = 256  # conversations a request to the template's process


class Rendered(NamedTuple):
    """Traces, and what became of the rest.

    Attributes:
      traces: each with the id of its conversation; several of one where a later turn's prompt does not begin with
        what stands before it (Qwen3's template deletes the thoughts of earlier turns).
      dropped: how many conversations were left out, by reason.
      first: for each reason the first of them, with what the template said.
      left_out: what templates left out of the prompts of the others, by kind.
    """

    traces: list[Trace]
    dropped: dict[str, int]
    first: dict[str, str]
    left_out: dict[str, int]


def render(
    conversations: Sequence[Conversation],
    chat: Chat,
    *,
    turns: str = ALL,
    thought: str = thoughts.TEMPLATE,
    system_turn: str = system.TEMPLATE,
    row_length: int = 0,
    template_kwargs: dict[str, Any] | None = None,
) -> Rendered:
    """Encodes conversations.

    Args:
      conversations: sound ones, of `reading.read`.
      chat: of the model that trains.
      turns: ALL trains on each of the assistant's turns, LAST on the last.
      thought: see `thoughts.placed`.
      system_turn: see `system.placed`.
      row_length: those whose first trained token lies beyond are left out; 0 for none.
      template_kwargs: for the template, such as {"enable_thinking": False}.

    Raises:
      UserError: thoughts or system turns that the template has no place for.
    """
    total = len(conversations)
    opened = [any(split(one.messages[n])[0] is not None for n in answers(one.messages)) for one in conversations]
    thoughts.check(chat, sum(opened), total, thought)
    ruled = sum(one.messages[0]["role"] == "system" for one in conversations)
    system.check(chat, ruled, total, system_turn)
    traces: list[Trace] = []
    dropped: collections.Counter[str] = collections.Counter()
    left_out: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    options = dict(template_kwargs or {})
    for tools, group in itertools.groupby(conversations, key=lambda one: one.tools):
        more = {**options, "tools": [dict(tool) for tool in tools]} if tools else options
        rest = iter(group)
        while batch := list(itertools.islice(rest, _AT_ONCE)):
            for one, made in zip(batch, _batch(batch, chat, turns, thought, system_turn, more), strict=True):
                if isinstance(made, str):
                    reason, _, why = made.partition(": ")
                elif row_length and not any(_trained(trace, row_length) for trace in made[0]):
                    reason, why = TOO_LONG, f"{made[0][0].prompt_ids.size} tokens before the answer"
                else:
                    traces += [trace for trace in made[0] if not row_length or _trained(trace, row_length)]
                    left_out.update(made[1])
                    continue
                dropped[reason] += 1
                first.setdefault(reason, f"{one.place}: {why}" if why else one.place)
    return Rendered(traces, dict(dropped), first, dict(left_out))


Made = tuple[list[Trace], dict[str, int]] | str


def _batch(
    batch: Sequence[Conversation], chat: Chat, turns: str, thought: str, system_turn: str, options: dict[str, Any]
) -> list[Made]:
    """Traces of each conversation, or why there are none. What one of them breaks, the others do not pay for."""
    try:
        return _encode(batch, chat, turns, thought, system_turn, options)
    except ExhaustedError:
        raise
    except UserError as error:
        if len(batch) == 1:
            return [f"{REFUSED}: {one_line(error)}"]
        half = len(batch) // 2
        return [
            made for part in (batch[:half], batch[half:])
            for made in _batch(part, chat, turns, thought, system_turn, options)
        ]  # fmt: skip


def _encode(
    batch: Sequence[Conversation], chat: Chat, turns: str, thought: str, system_turn: str, options: dict[str, Any]
) -> list[Made]:
    said = [_placed(one, thought, system_turn) for one in batch]
    begin = 0 if turns == ALL else -1
    asked = [(n, k) for n, messages in enumerate(said) for k in answers(messages)[begin:]]
    before = chat.encoded([said[n][:k] for n, k in asked], **options)
    whole = chat.encoded([said[n][: k + 1] for n, k in asked], **{**options, "add_generation_prompt": False})
    parts: list[list[tuple[list[int], list[int]]]] = [[] for _ in batch]
    left: list[collections.Counter[str]] = [collections.Counter() for _ in batch]
    lost = [""] * len(batch)
    for (n, k), prompt, full in zip(asked, before, whole, strict=True):
        answer = _answer(said[n][k], prompt.ids, full.ids, chat)
        if _calls_lost(said[n][k], answer, chat):
            lost[n] = NO_CALLS
        if "reasoning_content" in said[n][k] and chat.decode(prompt.ids[-8:]).rstrip().endswith(chat.thinking.close):
            lost[n] = ENDED
        parts[n].append((prompt.ids, answer))
        left[n].update({f"{what} of earlier turns": count for what, count in prompt.left_out.items()})
    return [
        why or (_joined(one.id, pieces), dict(counts))
        for one, pieces, counts, why in zip(batch, parts, left, lost, strict=True)
    ]


def _placed(one: Conversation, thought: str, system_turn: str) -> list[Any]:
    messages = system.placed(one.messages, system_turn)
    return [thoughts.placed(m, thought) if m["role"] == "assistant" else m for m in messages]


def _answer(message: Any, prompt: list[int], whole: list[int], chat: Chat) -> list[int]:
    """Ids of an answer, its end included, nothing after it."""
    thought = message.get("reasoning_content")
    if whole[: len(prompt)] != prompt or (chat.think_open_in_prompt and thought is None):
        return _apart(message, thought, chat)
    ids = whole[len(prompt) :]
    if thought is not None and thought.strip() not in chat.decode(ids):
        return _apart(message, thought, chat)  # the tags are tokens, but the template does not write them
    last = max((place for place, id in enumerate(ids) if id in chat.stop_ids), default=None)
    if last is not None:
        return ids[: last + 1]
    return ids if chat.end_of_turn_id is None else [*ids, chat.end_of_turn_id]


def _apart(message: Any, thought: str | None, chat: Chat) -> list[int]:
    return chat.completion_ids("" if thought is None and chat.think_open_in_prompt else thought, message["content"])


def _calls_lost(message: Any, ids: Sequence[int], chat: Chat) -> bool:
    """Whether the template left out a tool call."""
    calls = message.get("tool_calls") or ()
    names = [(call.get("function") or call).get("name", "") for call in calls]
    return bool(names) and not all(name and name in chat.decode(ids) for name in names)


def _joined(name: str, pieces: Iterable[tuple[list[int], list[int]]]) -> list[Trace]:
    """One trace of all turns while each prompt begins with all that stands before it, else a further one."""
    found: list[tuple[list[int], list[int], list[int]]] = []  # prompt, completion, its sources
    for prompt, answer in pieces:
        source = [int(Source.INJECTED)] * len(answer)
        if found and prompt[: len(found[-1][0]) + len(found[-1][1])] == found[-1][0] + found[-1][1]:
            begin, completion, sources = found[-1]
            between = prompt[len(begin) + len(completion) :]
            masked = [int(Source.PROMPT)] * len(between)
            found[-1] = begin, [*completion, *between, *answer], [*sources, *masked, *source]
        else:
            found.append((prompt, answer, source))
    return [
        Trace(
            prompt_ids=np.asarray(begin, np.int32),
            completion_ids=np.asarray(completion, np.int32),
            source=np.asarray(sources, np.uint8),
            prompt_id=name,
            sample=number,
        )
        for number, (begin, completion, sources) in enumerate(found)
    ]


def _trained(trace: Trace, row_length: int) -> bool:
    """Whether a token that is trained on lies in the first `row_length`."""
    return bool((trace.sources[:row_length] == Source.INJECTED).any())
