"""The stages before and after: a model answers the evaluation's prompts, and the evaluation says what it is worth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from lrm_align import json_lines
from lrm_align.chat import Prompt
from lrm_align.config import build, plain, resolve
from lrm_align.evals.subject import Answer, Subject
from lrm_align.recipes import rollouts, selection
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import Request
from lrm_align.traces import Trace

# What of `config.sample` a measurement draws with; the rest is `config.evaluate`'s.
ENGINE = ("min_p", "max_new_tokens", "slots", "lanes", "max_length", "steps_per_call", "shard_traces")


class Talk(NamedTuple):
    """How a model is asked and what of a sample is its answer, where that is more than a prompt and a reply.

    Attributes:
      requests: prompts, with the settings of the sampler, to what the engine is asked.
      answer: a sample to its answer; the note "whole" is what people are shown of it.
    """

    requests: Callable[[Sequence[Prompt], ConfigDict], list[Request]]
    answer: Callable[[Trace], Answer]


def check(settings: ConfigDict) -> None:
    """Looks whether the evaluation exists.

    Raises:
      UserError: it does not.
    """
    resolve(settings.factory)


def run(
    directory: epath.Path,
    student: Student,
    config: ConfigDict,
    more: Mapping[str, Any],
    talk: Talk | None = None,
) -> Summary:
    """Runs the evaluation that the config names on a model.

    Every answer stays in `NAME.answers.jsonl`, and what the evaluation said of each in `NAME.verdicts.jsonl`.

    Args:
      directory: for traces and answers.
      student: the model.
      config: of the run.
      more: further arguments of the evaluation.
      talk: how the model is asked; plainly where None.
    """
    settings = ConfigDict(sampling(config))
    talk = talk or _plainly(student)

    def answer(name: str, prompts: Sequence[Prompt]) -> list[Answer]:
        rollouts.run(directory / name, student, talk.requests(prompts, settings), settings, config.seed, f"  {name}")
        traces = rollouts.by_prompt(directory / name)
        answers = [talk.answer(traces[prompt.id]) for prompt in prompts]
        rows = [
            {"id": prompt.id, "prompt": prompt.text, "text": notes.get("whole", text), "finished": finished}
            for prompt, (text, finished, notes) in zip(prompts, answers, strict=True)
        ]
        json_lines.write(directory / f"{name}.answers.jsonl", rows)
        return answers

    def judged(name: str, prompts: Sequence[Prompt], verdicts: Sequence[str]) -> None:
        rows = [{"id": prompt.id, "verdict": verdict} for prompt, verdict in zip(prompts, verdicts, strict=True)]
        json_lines.write(directory / f"{name}.verdicts.jsonl", rows)

    guard = rater(config)
    subject = Subject(answer, lambda: selection.guard(guard, student.mesh), config.seed, judged, guard.threshold)
    return build(config.evaluate.factory, {**arguments(config), **plain(more)}, subject)


def read_by(measured: Sequence[str], drawn: Sequence[str] = ()) -> dict[str, Sequence[str]]:
    """For a recipe's `Scope`: the settings that stages which measure read, beside the guard.

    Args:
      measured: these stages; "before" alone reads `before_args`.
      drawn: the stages that sample with all of `config.sample`.
    """
    shared = {f"sample.{name}": (*drawn, *measured) for name in ENGINE}
    return {"sample": drawn, **shared, "evaluate": measured, "evaluate.before_args": ("before",)}


def rater(config: ConfigDict) -> ConfigDict:
    """The guard that an evaluation asks: `config.evaluate.guard`, if a run's own acts on the model, else the run's."""
    return config.evaluate.guard if "guard" in config.evaluate else config.guard


def _plainly(student: Student) -> Talk:
    def requests(prompts: Sequence[Prompt], settings: ConfigDict) -> list[Request]:
        return rollouts.requests(student, [(prompt, prompt.last) for prompt in prompts], settings)

    def answer(trace: Trace) -> Answer:
        text = student.chat.full_response(student.chat.completion_text(trace.completion_ids))
        return Answer(text, trace.stop_reason != "length")

    return Talk(requests, answer)


def arguments(config: ConfigDict) -> dict[str, Any]:
    """The evaluation's arguments; a run of several seeds takes the sizes of a table."""
    return {**plain(config.evaluate.args), **(plain(config.evaluate.table_args) if config.seeds > 1 else {})}


def sampling(config: ConfigDict) -> dict[str, Any]:
    """How answers are drawn: one each, with the evaluation's temperature, top-p and top-k on the sampler's engine."""
    own = ("temperature", "top_p", "top_k")
    return {
        "samples": 1,
        "lanes": 1,
        **{name: config.sample[name] for name in ENGINE if name in config.sample},
        **{name: config.evaluate[name] for name in own},
    }
