"""The prompts of a run: read by the factory that the config names, and cleaned of what an evaluation will ask."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_align.chat import Chat, Prompt, check_length, decontaminate, load
from lrm_align.chat.chat import Messages
from lrm_align.config import build, digest, plain
from lrm_align.errors import UserError


class Prompts(NamedTuple):
    """Prompts to sample, and what decontamination removed: {evaluation set: count}."""

    kept: list[Prompt]
    removed: dict[str, int]
    checked: int


def read(settings: Mapping[str, Any], seed: int) -> Prompts:
    """Reads and decontaminates prompts.

    Args:
      settings: `config.prompts`: `factory` and `args` give the prompts; `against` maps names of evaluation sets to
        arguments of `lrm_align.chat.load`.
      seed: handed to the factory.

    Raises:
      UserError: whatever is wrong with a file, or nothing is left.
    """
    prompts = build(settings["factory"], {**settings["args"], "seed": seed})
    read_as = f"{load.__module__}:{load.__name__}"
    sources = plain(settings["against"])
    against = {
        name: [text for prompt in build(read_as, source) for text in prompt.turns] for name, source in sources.items()
    }
    kept, overlap = decontaminate(prompts, against)
    if not kept:
        raise UserError(f"config.prompts: all of {overlap.checked} prompts are in the evaluation sets {list(against)}")
    return Prompts(kept, {name: count for name, count in overlap.by_set.items() if count}, overlap.checked)


def identity(prompts: Sequence[Prompt]) -> str:
    """What tells these prompts from others, whatever file they are from: answers and levels stand in `meta`.

    >>> asked = [Prompt("a", "1 + 1?", "benign", meta={"answer": answer}) for answer in ("2", "3")]
    >>> identity(asked[:1]) == identity(asked[1:])
    False
    """
    return digest(
        [
            [prompt.id, prompt.text, prompt.label, prompt.kind, str({**prompt.meta})]
            + ([[dict(message) for message in prompt.messages]] if prompt.messages else [])
            for prompt in prompts
        ]
    )


def rendered(chat: Chat, asked: Sequence[tuple[str, Messages]], context: int, room: int) -> list[list[int]]:
    """The ids of conversations with the generation prompt.

    Args:
      chat: of the model.
      asked: for each, what it is called in complaints, and the conversation, or a single user turn.
      context: positions that there are.
      room: positions that stay free for an answer.

    Raises:
      UserError: no room is left for an answer.
    """
    found = chat.prompts_ids([said for _, said in asked])
    for ids, (where, _) in zip(found, asked, strict=True):
        check_length(ids, context, where, reserve=room)
    return found
