"""Requests of RL tasks that ask a prompt in one turn, without anything that acts on the decoding."""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from lrm_align.chat import Prompt
from lrm_align.config import plain
from lrm_align.recipes import rollouts
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request


def single_turn(student: Student, config: ConfigDict) -> Callable[[Prompt, str], Request]:
    """(prompt, id) -> request, by `config.rl.sampling` and `config.rl.samples`.

    Raises:
      UserError: in use, a prompt that leaves no room for an answer.
    """
    settings = ConfigDict({**plain(config.rl.sampling), "samples": config.rl.samples})

    def request(prompt: Prompt, name: str) -> Request:
        [made] = rollouts.requests(student, [(prompt, prompt.text)], settings)
        return dataclasses.replace(made, prompt_id=name)

    return request
