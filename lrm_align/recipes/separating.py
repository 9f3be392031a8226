"""An RL stage whose samples come from other jobs: what they share, and how they know that they belong together."""

import dataclasses
import json
from collections.abc import Callable

from etils import epath
from ml_collections import ConfigDict
from transformers import PreTrainedTokenizerBase

from lrm_align import processes, stamps
from lrm_align.config import digest, plain
from lrm_align.recipes import prompting
from lrm_align.recipes.student import Student
from lrm_align.rl.separate import Separate
from lrm_align.rl.task import Task
from lrm_align.settings import counted
from lrm_align.settings.sampling import DrawSettings


def about(student: Student, task: Task, config: ConfigDict) -> dict[str, str]:
    """{part: digest} of what the groups of a run depend on; jobs that differ in one refuse each other."""
    template = [student.chat.template.source, {name: repr(v) for name, v in student.chat.template_kwargs.items()}]
    rl = config.rl
    graders = {name: [grader.name, grader.version] for name, grader in task.graders.items()}
    first = task.request(task.prompts[0], task.prompts[0].id)
    asked = [list(map(int, first.prompt_ids)), dataclasses.asdict(first.params), list(first.numbers)]
    asked.append(type(first.intervention).__name__)
    sampling = counted(rl.sampling, DrawSettings)
    return {
        "model": digest([student.identity, {name: config.model[name] for name in ("dtype", "param_dtype")}]),
        "tokenizer": digest([tokenizer(student.chat.tokenizer), template, sorted(student.chat.stop_ids)]),
        "tuning": digest(plain(rl.lora)),
        "recipe": digest([prompting.identity(task.prompts), graders, asked, sampling, rl.samples, config.seed]),
    }


def tokenizer(of: PreTrainedTokenizerBase) -> str:
    """A digest of a tokenizer: all of a fast one but how it was last called, the vocabulary of another."""
    if not of.is_fast:
        return digest(sorted(of.get_vocab().items()))
    fields = json.loads(of.backend_tokenizer.to_str())
    return digest({name: value for name, value in fields.items() if name not in ("padding", "truncation")})


def source(
    directory: epath.Path, student: Student, task: Task, config: ConfigDict, log: Callable[[str], None]
) -> Separate:
    """The groups that samplers write."""
    rl = config.rl
    return Separate(
        directory / stamps.SHARED,
        groups=rl.groups,
        samples=rl.samples,
        steps=rl.steps,
        max_staleness=rl.max_staleness,
        samplers=rl.sampler_count,
        about=about(student, task, config),
        max_refills=rl.max_refills,
        leader=processes.primary(),
        log=log,
    )
