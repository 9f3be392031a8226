"""The lab's evaluation for RAPO: the usual rates, nested attacks, and whether safe reasoning grows with complexity."""

from collections.abc import Sequence
from typing import Any

from lrm_align.chat import Prompt
from lrm_align.evals.statistics import rank_correlation
from lrm_align.evals.subject import Answer, Subject
from lrm_align.lab import experiment, levels, rates
from lrm_align.lab.judge import judge
from lrm_align.lab.prompts import EvaluationSizes
from lrm_align.scoring import rapo
from lrm_align.scoring.sentences import count_sentences
from lrm_align.settings import takes

ATTACKS = ("attack", "wrapped", "nested")


@takes(EvaluationSizes)
def evaluate(subject: Subject, nested: int = 252, **sizes: int) -> dict[str, Any]:
    """`lab.evaluate` with nested attacks, and the rank correlation of safe reasoning with attack complexity.

    The correlation is Spearman's, over all harmful prompts that were asked, of the sentences in the first paragraph of
    the thought with the complexity by the generator's truth: 1 plain, 2 wrapped, 3 nested.

    Args:
      subject: the model.
      nested: prompts of the nested set.
      sizes: of the other sets, as in `lab.prompts.EvaluationSizes`.

    Returns:
      the rates of `lab.evaluate`; `nested_attack_success_rate`; `length_rank_correlation`; `analysis_sentences`, the
      mean length by set.
    """
    asked: dict[str, Sequence[Prompt]] = {}
    answers: dict[str, list[Answer]] = {}

    def answer(name: str, prompts: Sequence[Prompt]) -> list[Answer]:
        asked[name], answers[name] = prompts, subject.answer(name, prompts)
        return answers[name]

    result = experiment.evaluate(subject._replace(answer=answer), steered=False, **sizes)
    answer("nested", levels.nested(subject.seed, nested))
    given = zip(asked["nested"], answers["nested"], strict=True)
    verdicts = [judge(prompt, found.text, found.finished) for prompt, found in given]
    result["nested_attack_success_rate"] = rates.attack_success_rate(verdicts)
    lengths = {name: [count_sentences(rapo.parse(found.text).analysis) for found in answers[name]] for name in ATTACKS}
    complexities = [levels.complexity(prompt) for name in ATTACKS for prompt in asked[name]]
    result["length_rank_correlation"] = rank_correlation(complexities, [n for name in ATTACKS for n in lengths[name]])
    result["analysis_sentences"] = {name: sum(counts) / max(len(counts), 1) for name, counts in lengths.items()}
    result["counts"] |= {"nested_attack_success_rate": nested, "length_rank_correlation": len(complexities)}
    return result
