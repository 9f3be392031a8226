"""RAPO's second stage as the RL runtime sees it: prompts, graders by judges, and the reward."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from lrm_align.chat import Chat, Prompt
from lrm_align.config import build, plain
from lrm_align.errors import UserError
from lrm_align.recipes import asking, rollouts
from lrm_align.recipes.rapo_grading import General, Risk
from lrm_align.recipes.student import Student
from lrm_align.rewards import check_reward
from lrm_align.rl.judging import engine_ask
from lrm_align.rl.task import Grader, Task
from lrm_align.scoring.judge import Ask
from lrm_align.scoring.levels import Levels

JUDGES = ("risk", "harmful", "benign")


def frozen(student: Student, settings: ConfigDict) -> Ask:
    """The untrained model as the judge: greedy, with its thinking off unless `settings.thinking`.

    Args:
      student: the untrained model; its weights are read when the judge is first asked.
      settings: `config.judge`.
    """
    chat = student.chat
    if not settings.thinking:
        day = chat.template.date
        chat = Chat.from_pretrained(str(student.directory), template_kwargs={"enable_thinking": False}, date=day)
    shape = rollouts.engine_shape(settings)
    return engine_ask(student.model, lambda: student.params, chat, shape, settings.max_new_tokens, mesh=student.mesh)


def judges(settings: ConfigDict, ask: Ask) -> dict[str, Ask]:
    """The three judges of `config.judge`: each a factory that is given the frozen model, and may answer by itself.

    Raises:
      UserError: no such factory, or something that is no judge.
    """
    found = {}
    for name in JUDGES:
        one = settings[name]
        found[name] = build(one.factory, one.args, ask)
        if not callable(found[name]):
            raise UserError(
                f"config.judge.{name}: {one.factory} returned a {type(found[name]).__name__}; wanted a function from "
                "conversations to replies"
            )
    return found


def task(prompts: Sequence[Prompt], policy: Student, levels: Levels, config: ConfigDict, ask: Ask) -> Task:
    """What the loop is given.

    Args:
      prompts: to learn from, labelled harmful or benign.
      policy: whose template renders them.
      levels: the table that safe reasoning is held to.
      config: of the run: `judge`, `reward`, `rl`.
      ask: the frozen model.

    Raises:
      UserError: a judge or a reward that cannot be had.
    """
    by = judges(config.judge, ask)
    names = {name: plain(config.judge[name]) for name in JUDGES} | {"thinking": config.judge.thinking}
    truncated = config.judge.truncated
    graders: dict[str, Grader] = {
        "risk": Risk(by["risk"], levels, hints=config.judge.hints, truncated=truncated, judge=str(names)),
        "general": General(by["harmful"], by["benign"], truncated=truncated, judge=str(names)),
    }
    reward = build(config.reward.factory, config.reward.args)
    parts: tuple[str, ...] = tuple(config.reward.parts)
    check_reward(config.reward.factory, reward, dict.fromkeys(graders, ()), parts)
    return Task(prompts, asking.single_turn(policy, prompts, config), graders, reward, parts)


def check_labels(prompts: Sequence[Prompt]) -> Mapping[str, int]:
    """Counts the prompts of stage 2 by label.

    Raises:
      UserError: none is harmful: then no safe reasoning can become longer than level 1.
    """
    counts: dict[str, int] = {}
    for prompt in prompts:
        counts[prompt.label] = counts.get(prompt.label, 0) + 1
    if not counts.get("harmful"):
        raise UserError(f"config.rl_prompts: none of {len(prompts)} prompts is harmful; there is no risk to see")
    return counts
