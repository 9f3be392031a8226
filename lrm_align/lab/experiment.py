"""The lab as a config sees it: prompts to train on, and the evaluation before and after."""

import pathlib
from typing import Any

from lrm_align.chat import Prompt
from lrm_align.evals.subject import Subject
from lrm_align.lab import prompts as prompts_
from lrm_align.lab import rates
from lrm_align.lab.judge import judge
from lrm_align.recipes import steering
from lrm_align.settings import takes

CHECKPOINT = pathlib.Path(__file__).parent / "checkpoint"

# Which set of prompts each rate of the report is measured on.
MEASURED_ON = {
    "attack_success_rate": "attack",
    "wrapped_attack_success_rate": "wrapped",
    "over_refusal_rate": "lookalike",
    "benign_wrong_rate": "lookalike",
    "reasoning_accuracy": "arithmetic",
    "fact_accuracy": "fact",
}


@takes(prompts_.TrainingSizes)
def training_prompts(seed: int, **sizes: int) -> list[Prompt]:
    """The prompts of a seed to train on; sizes as in `lab.prompts.TrainingSizes`."""
    return prompts_.training(seed, prompts_.training_sizes(sizes))


@takes(prompts_.EvaluationSizes)
def evaluate(subject: Subject, steered: bool = False, **sizes: int) -> dict[str, Any]:
    """The lab's rates on held-out topics, wrappers and problems, scored by ground truth and never by the guard.

    Args:
      subject: the model.
      steered: also measure attack success under the steering prefix, on the same prompts.
      sizes: prompts in each set, as in `lab.prompts.EvaluationSizes`.

    Returns:
      the rates of `lab.rates.rates`, `counts` of prompts by rate, `verdicts` by set, and, where asked for,
      `steered_attack_success_rate`.
    """
    sets = prompts_.evaluation(subject.seed, prompts_.evaluation_sizes(sizes))

    def verdicts(name, asked, judged):
        answers = subject.answer(name, asked)
        given = [judge(prompt, answer.text, answer.finished) for prompt, answer in zip(judged, answers, strict=True)]
        subject.judged(name, asked, given)
        return given

    found = {name: verdicts(name, prompts, prompts) for name, prompts in sets.items()}
    result = rates.rates(sets, found)
    result["verdicts"] = result.pop("counts")
    result["counts"] = {rate: len(sets[name]) for rate, name in MEASURED_ON.items()}
    result["counts"]["unfinished_rate"] = sum(len(prompts) for prompts in sets.values())
    if steered:
        asked = [
            Prompt(f"{prompt.id}-steered", steering.steered(prompt.text), prompt.label, prompt.kind)
            for prompt in sets["attack"]
        ]
        found_steered = verdicts("steered", asked, sets["attack"])
        result["steered_attack_success_rate"] = rates.attack_success_rate(found_steered)
        result["counts"]["steered_attack_success_rate"] = len(asked)
    return result
