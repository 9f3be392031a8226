"""GRPO on questions with a known answer: the plainest use of the RL runtime, and the proof that it learns.

The reward is 1 for the right final answer and 0 for any other: as the evaluator compares them (`graders.Reference`), or
by a pattern (`graders.Answer`). Loss and credit are the config's.
"""

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import plain
from lrm_align.errors import UserError
from lrm_align.recipes import asking, graders, learning, prompting, references
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.student import Student
from lrm_align.rewards import weighted_sum
from lrm_align.rl.task import Grader, Task
from lrm_align.scoring.math_answers import Checker
from lrm_align.settings import made
from lrm_align.settings.judging import AnswersSettings


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    return learning.recipe("GRPO on answers", task, config)


def task(student: Student, config: ConfigDict) -> Task:
    """What is asked, and what an answer is worth.

    Raises:
      UserError: prompts without an answer, or a pattern that cannot find one.
    """
    prompts = prompting.read(config.prompts, config.seed).kept
    without = [prompt.id for prompt in prompts if "answer" not in prompt.meta]
    if without:
        raise UserError(
            f'config.prompts: {len(without)} of {len(prompts)} prompts have no meta["answer"], {without[0]!r} is the '
            'first; name the column of the answers in "meta" of the prompts\' arguments'
        )
    grader: Grader
    if config.answer.pattern:
        grader = graders.Answer(**plain(config.answer))
        references.check_pattern(prompts, config.answer.pattern)
    else:
        settings = made(AnswersSettings, config.get("answers", {}), "config.answers")
        checker = Checker(settings.seconds, settings.workers)
        grader = graders.Reference(references.read_all(prompts, checker), checker, config.answer.truncated)
    return Task(
        prompts=prompts,
        request=asking.single_turn(student, prompts, config),
        graders={"answer": grader},
        reward=weighted_sum({"answer": 1.0}),
        parts=("answer",),
    )
