"""The prompts of a run: read by the factory that the config names, and cleaned of what an evaluation will ask."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lrm_align.chat import Chat, Prompt, check_length, decontaminate, load
from lrm_align.config import build
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
    against = {name: [prompt.text for prompt in load(**source)] for name, source in settings["against"].items()}
    kept, overlap = decontaminate(prompts, against)
    if not kept:
        raise UserError(f"config.prompts: all of {overlap.checked} prompts are in the evaluation sets {list(against)}")
    return Prompts(kept, {name: count for name, count in overlap.by_set.items() if count}, overlap.checked)


def rendered(chat: Chat, text: str, where: str, context: int, room: int) -> list[int]:
    """The ids of a single user turn with the generation prompt.

    Raises:
      UserError: no room is left for an answer.
    """
    ids = chat.prompt_ids([{"role": "user", "content": text}])
    check_length(ids, context, where, reserve=room)
    return ids
