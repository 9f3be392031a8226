"""Requests of RL tasks that ask a prompt in one turn, without anything that acts on the decoding."""

import dataclasses
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.config import plain
from lrm_align.recipes import rollouts
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request


def single_turn(student: Student, prompts: Sequence[Prompt], config: ConfigDict) -> Callable[[Prompt, str], Request]:
    """(prompt, id) -> request, by `config.rl.sampling` and `config.rl.samples`.

    Args:
      student: whose template renders the prompts.
      prompts: all that will be asked about; they are rendered at once.
      config: of the run.

    Raises:
      UserError: a prompt that leaves no room for an answer.
    """
    settings = ConfigDict({**plain(config.rl.sampling), "samples": config.rl.samples})
    made = rollouts.requests(student, [(prompt, prompt.last) for prompt in prompts], settings)
    by_prompt = {(prompt.id, prompt.text): request for prompt, request in zip(prompts, made, strict=True)}

    def request(prompt: Prompt, name: str) -> Request:
        return dataclasses.replace(by_prompt[prompt.id, prompt.text], prompt_id=name)

    return request
