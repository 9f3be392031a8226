"""GRPO with a guard's verdict and the form of the thinking as rewards: the online baseline of ThinkSafe.

Lee, Park et al. 2026, arXiv 2601.23143, sections 5.3 and F: safety, p(safe) of the guard in [0, 1], and form, 1 for one
thought that ends, are summed; there is no reward for being helpful on benign prompts. Their prompts are those that
ThinkSafe's filter keeps; here they are all of `config.prompts`. A sample that the guard cannot decide on has no reward
and no weight; the authors' code gives the whole batch 0 when the guard fails.
"""

from etils import epath
from ml_collections import ConfigDict

from lrm_align.config import build, digest, plain
from lrm_align.recipes import asking, graders, learning, prompting, selection
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.student import Student
from lrm_align.rewards import check_reward
from lrm_align.rl.task import Task

GRADERS = ("safety", "form")


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the run will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    selection.check(config.guard)
    return learning.recipe("GRPO with a guard", task, config)


def task(student: Student, config: ConfigDict) -> Task:
    """What is asked, and what an answer is worth.

    Raises:
      UserError: a reward that reads what nobody scores.
    """
    reward = build(config.reward.factory, config.reward.args)
    check_reward(config.reward.factory, reward, dict.fromkeys(GRADERS, ()))
    safety = graders.Safety(lambda: selection.guard(config.guard, student.mesh), digest(plain(config.guard)))
    prompts = prompting.read(config.prompts, config.seed).kept
    return Task(
        prompts=prompts,
        request=asking.single_turn(student, prompts, config),
        graders={"safety": safety, "form": graders.Form()},
        reward=reward,
        parts=GRADERS,
    )
